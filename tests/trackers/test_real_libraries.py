"""A run with a baseline, followed by the real MLflow and W&B in an environment of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PIPELINE = """\
[run]
name = "followed"
[compute]
workers = 1
device = "cpu"
[dataset]
use = "phantom"
patients = 2
slices = 12
size = 32
matrix = 32
[[reduce]]
use = "all"
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
steps = 2
batch = 4
[[baseline]]
[[task]]
use = "phantom-lesions"
train = 20
val = 10
test = 10
size = 32
protocol = ["knn"]
[[track]]
use = "mlflow"
uri = "{store}"
experiment = "lung"
[[track]]
use = "wandb"
mode = "offline"
"""
LOOK = """
import json
from mlflow.tracking import MlflowClient
client = MlflowClient("{store}")
(run,) = client.search_runs([client.get_experiment_by_name("lung").experiment_id])
print(json.dumps([run.info.status, sorted(run.data.metrics)]))
"""


@pytest.mark.slow
def test_a_run_with_a_baseline_is_followed_to_its_end(
    new_environment, ctkit_wheel: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = new_environment(tmp_path / "environment")
    environment.pip("install", "--quiet", "mlflow-skinny", "wandb")
    environment.install(ctkit_wheel)
    store = (tmp_path / "store").as_uri()
    (tmp_path / "p.toml").write_text(PIPELINE.replace("{store}", store))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    done = environment.run(environment.scripts / "ctkit", "run", "p.toml", cwd=tmp_path)
    assert "rejected" not in done.stderr
    assert "failed and is ignored" not in done.stderr
    status, metrics = json.loads(environment.run(environment.python, "-c", LOOK.replace("{store}", store)).stdout)
    assert status == "FINISHED"
    assert any(name.startswith("score/untrained/phantom-lesions/knn") for name in metrics)
    assert any(name.startswith("pretrain/") for name in metrics)
    (record,) = (tmp_path / "runs").rglob("*.wandb")
    assert b"score/untrained/phantom-lesions/knn" in record.read_bytes()
