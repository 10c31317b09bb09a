"""MLflow and W&B, each read back by its own library where it is installed: nothing is asked of a network."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from ctkit.testing import check_tracker
from ctkit_trackers.mlflow import MLflow, MLflowParams
from ctkit_trackers.wandb import WandB, WandBParams
from following import follow


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a library in the place of wandb is told by its settings and arguments; it starts no run."""
    said: dict[str, object] = {}

    class Settings:
        model_fields: ClassVar = {"console", "silent", "disable_git", "save_code", "x_disable_meta"}

        def __init__(self, **settings: object) -> None:
            said.update(settings)

    library = SimpleNamespace(__version__="9.9", Settings=Settings, init=lambda **words: said.update(words))
    monkeypatch.setitem(sys.modules, "wandb", library)  # type: ignore[arg-type]  # as much of it as is asked for
    return said


def test_wandb_is_told_to_send_no_command_line_machine_or_packages(tmp_path: Path, told: dict[str, object]) -> None:
    sys.modules["wandb"].Settings.model_fields |= {"x_disable_machine_info", "x_save_requirements"}
    follow(tmp_path, WandB(WandBParams(project="lung", entity="team", group="sizes", mode="offline")))
    private = {"x_disable_meta": True, "x_disable_machine_info": True, "x_save_requirements": False}
    chosen = {"project": "lung", "entity": "team", "group": "sizes", "mode": "offline", "name": "study"}
    assert told.items() >= (private | chosen).items()


def test_a_wandb_that_cannot_be_told_so_is_a_warning_and_is_told_nothing(
    tmp_path: Path, told: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        follow(tmp_path, WandB())
    assert "wandb 9.9 has no setting 'x_disable_machine_info', without which it would send paths" in caplog.text
    assert told == {}


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    (said,) = MLflow(MLflowParams(uri="https://anna:secret@host")).check(None)
    assert said.startswith("uri must not hold a password")
    assert "secret" not in said
    assert list(MLflow(MLflowParams(uri="https://host:5000")).check(None)) == []


def test_mlflow_closes_a_run_whose_parameter_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []

    class Client:
        def __init__(self, uri: str | None) -> None:
            asked.append(uri)

        def get_experiment_by_name(self, name: str) -> None:
            asked.append(name)

        def create_experiment(self, name: str) -> str:
            return "0"

        def create_run(self, experiment: str, run_name: str) -> object:
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def log_param(self, run: str, key: str, value: str) -> None:
            raise ValueError("changing values is not allowed")

        def set_terminated(self, run: str, status: str) -> None:
            asked.append(status)

    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=Client))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())  # type: ignore[arg-type]  # all that is asked for
    with caplog.at_level(logging.WARNING):
        follow(tmp_path, MLflow(MLflowParams(uri="http://host:5000", experiment="lung")))
    assert asked == ["http://host:5000", "lung", "FAILED"]
    assert "mlflow rejected the parameter run.name: changing values is not allowed" in caplog.text


@pytest.mark.filterwarnings("ignore")  # its own, and those of what it brings
def test_mlflow_holds_parameters_curves_scores_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = (tmp_path / "store").as_uri()
    check_tracker(MLflow, MLflowParams(uri=store, experiment="checked"))
    follow(tmp_path, MLflow(MLflowParams(uri=store)))
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("ctkit")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("study", "FINISHED")
    assert run.data.params["reduce.hash6.steps.0.scope"] == "volume"
    history = client.get_metric_history(run.info.run_id, "pretrain/hash6_/simclr/seed-42/loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.5), (2, 2.25)]
    assert run.data.metrics["pretrain/hash6_/simclr/seed-42/seconds"] == 7.5
    assert run.data.metrics["score/hash6/simclr/lesions/knn/labels-1/auc"] == 0.8
    assert run.data.metrics["score/untrained/lesions/knn/labels-1/auc"] == 0.5
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"report.html", "results.csv"}

    follow(tmp_path, MLflow(MLflowParams(uri=store)), fails=True)
    assert {run.info.status for run in client.search_runs([experiment.experiment_id])} == {"FINISHED", "FAILED"}


@pytest.mark.filterwarnings("ignore")  # its own, and those of what it brings
def test_wandb_keeps_all_of_it_here_when_it_is_offline_and_no_path_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setattr(sys, "argv", ["ctkit", "run", "--set", f"dataset.labels={tmp_path / 'a-file-of-patients.csv'}"])
    check_tracker(WandB, WandBParams(mode="offline"))
    follow(tmp_path, WandB(WandBParams(mode="offline")))
    (record,) = tmp_path.rglob("*.wandb")
    until = time.monotonic() + 60  # its own process writes, and on a busy machine later than the run ends
    while b"report.html" not in (written := record.read_bytes()) and time.monotonic() < until:
        time.sleep(0.1)
    for text in ("reduce.hash6.steps.0.scope", "pretrain/hash6+/simclr/seed-42/loss", "score/hash6/simclr/lesions/knn"):
        assert text.encode() in written
    assert b"report.html" in written
    assert b"volumes.csv" not in written
    assert str(tmp_path / "a-file-of-patients.csv").encode() not in written
    assert not list(tmp_path.rglob("requirements.txt"))
