"""``--jobs``: several trainings and evaluations at once, with the results that one after the other have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ctkit import plugins
from ctkit.cli import main
from ctkit.files import read_csv
from ctkit_models import cluster

PIPELINE = """\
[run]
name = "beside"
[compute]
device = "cpu"
workers = 2
[dataset]
use = "phantom"
patients = 1
slices = 16
matrix = 32
size = 32
[[reduce]]
use = "all"
[[reduce]]
id = "half"
use = "every-n"
n = 2
[[reduce]]
id = "again"  # the same slices as those of half, so the same backbone
use = "every-n"
n = 2
[[baseline]]
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
batch = 4
steps = 3
[[task]]
use = "phantom-lesions"
train = 8
val = 4
test = 8
size = 32
protocol = { use = "knn", size = 32 }
"""

#: A method that trains nothing, and whose process dies where the arm is ``half``.
FRAGILE = """\
import os, signal
from ctkit.contracts import NoParams, Method
from ctkit.hookspecs import Spec, hookimpl

@hookimpl
def ctkit_register_methods():
    return [Spec("fragile", "A method that dies.", "fragile:Fragile")]

class Fragile(Method[NoParams]):
    def pretrain(self, job):
        if job.metadata["arm"] == "half":
            os.kill(os.getpid(), signal.SIGKILL)
        from ctkit_models.untrained import Untrained
        return Untrained(Untrained.params_type(backbone="resnet18")).pretrain(job)
"""

Run = Callable[..., tuple[int, dict[str, Any]]]
FOLDER = Path("runs/beside")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the pipeline with more words; return the exit code and ``run.json``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more threads add up in another order
    (tmp_path / "p.toml").write_text(PIPELINE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def _run(*words: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as left:
            main(["run", "p.toml", *words])
        return int(left.value.code or 0), json.loads((FOLDER / "run.json").read_text())

    yield _run
    torch.set_num_threads(threads)


def backbones() -> dict[str, bytes]:
    return {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*.safetensors")}


def test_trainings_at_once_give_the_backbones_and_scores_of_one_after_the_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = run("--jobs", "2")
    said = capsys.readouterr().out
    assert (code, facts["state"], facts["jobs"], facts["at"]) == (0, "done", 2, None)
    assert "all/simclr/seed-42: 2 jobs shared the cores, so its time is not that of one alone" in facts["notes"]
    assert "pretrain all/simclr/seed-42: 3 done" in said
    beside, scores = backbones(), read_csv(FOLDER / "results.csv")
    made = [stage["item"] for stage in facts["stages"] if stage["stage"] == "pretrain" and not stage["cached"]]
    assert len(made) == len(set(made)) == 3  # of four backbones two are the same
    assert len(beside) == 4

    monkeypatch.setenv("CTKIT_CACHE", "another-cache")
    code, facts = run()
    assert (code, facts["jobs"]) == (0, 1)
    assert backbones() == beside
    assert read_csv(FOLDER / "results.csv") == scores


def test_when_the_process_of_one_dies_the_others_go_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "site" / "fragile-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "fragile.py").write_text(FRAGILE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nfragile = fragile\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins.load.cache_clear()
    (tmp_path / "p.toml").write_text(PIPELINE.split('[[reduce]]\nid = "again"')[0] + '[[pretrain]]\nuse = "fragile"\n')
    code, facts = run("-j", "2")
    plugins.load.cache_clear()
    reason = "the process that worked on it died (SIGKILL, as when memory runs out)"
    assert (code, facts["state"]) == (1, "failed in part")
    assert facts["failures"] == [{"stage": "pretrain", "item": "half/fragile/seed-42", "reason": reason}]
    assert reason in capsys.readouterr().err
    assert list(backbones()) == ["arms/all/fragile/seed-42/backbone.safetensors"]


def test_a_word_that_is_no_number_of_jobs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("0", "many", "1.5"):
        with pytest.raises(SystemExit, match="2"):
            main(["run", "p.toml", "--jobs", word])
        assert f"must be 1, 2, ... or auto but is '{word}'" in capsys.readouterr().err


def test_processes_that_share_each_training_do_not_train_several(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cluster.main(["run", "p.toml", "--jobs=2"])
    assert "all processes share each training" in capsys.readouterr().err
