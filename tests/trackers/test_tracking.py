"""Trackers, each read back by its own library: nothing is asked of a network."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

import ctkit_trackers
from ctkit.files import write_csv, write_text
from ctkit.hookspecs import RunInfo
from ctkit.plugins.registry import Registry
from ctkit.storage.records import ScoreRow
from ctkit_trackers import tracking
from ctkit_trackers.tracker import Tracker
from ctkit_trackers.tracking import flat

CONFIG = {
    "run": {"name": "study", "seed": 42, "out": "..."},
    "dataset": {"use": "ctkit-ssl:phantom", "root": None},
    "reduce": [{"id": "hash6", "steps": [{"use": "ctkit-ssl:hash", "scope": "volume"}]}],
    "task": [{"id": "lesions", "labels": [1.0, 0.1]}],
}
Follow = Callable[..., Path]


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Tell the hooks of a run with two losses, a score and a report, which then ends or fails; return its folder."""
    folder = tmp_path / "runs" / "study"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    registry = Registry()
    registry.manager.register(ctkit_trackers, "ctkit-ssl:ctkit-trackers")

    def _follow(trackers: str, *, fails: bool = False) -> Path:
        monkeypatch.setenv(ctkit_trackers.VARIABLE, trackers)
        run, item = RunInfo("study", folder, CONFIG), {"stage": "pretrain", "item": "hash6+/simclr/seed-42"}
        registry.notify("ctkit_run_started", run=run)
        registry.notify("ctkit_stage_started", run=run, **item)
        for step, loss in ((1, 3.5), (2, 2.25)):
            registry.notify("ctkit_metric_logged", run=run, **item, name="loss", value=loss, step=step)
        registry.notify("ctkit_stage_finished", run=run, **item, seconds=7.5)
        score = ("hash6", "simclr", "lesions", "knn", "1")
        baseline = ("untrained", "", "lesions", "knn", "1")
        rows = [(*score, seed, "all", "auc", value, 0, 1, None, None) for seed, value in ((42, 0.7), ("all", 0.8))]
        rows.append((*baseline, "all", "all", "auc", 0.5, 0, 1, None, None))
        write_csv(folder / "results.csv", ScoreRow._fields, rows)
        (folder / "report.html").write_text("<title>study</title>")
        (folder / "volumes.csv").write_text("a patient")
        if fails:
            registry.notify("ctkit_run_failed", run=run, error=KeyboardInterrupt())
        else:
            registry.notify("ctkit_run_finished", run=run)
        return folder

    return _follow


def test_parameters_go_by_the_ids_of_their_tables() -> None:
    assert dict(flat(CONFIG)) == {
        "run.name": "study",
        "run.seed": 42,
        "run.out": "...",
        "dataset.use": "ctkit-ssl:phantom",
        "dataset.root": "None",
        "reduce.hash6.id": "hash6",
        "reduce.hash6.steps.0.use": "ctkit-ssl:hash",
        "reduce.hash6.steps.0.scope": "volume",
        "task.lesions.id": "lesions",
        "task.lesions.labels": "[1.0, 0.1]",
    }


def test_nothing_is_tracked_unless_the_environment_asks_for_it(
    follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    folder = follow("")
    assert {path.name for path in folder.iterdir()} == {"results.csv", "report.html", "volumes.csv"}
    assert caplog.records == []


def test_an_unknown_tracker_is_a_warning_with_the_nearest_and_stops_nothing(
    follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        follow("mflow")
    (record,) = caplog.records
    assert "there is no tracker 'mflow'; did you mean 'mlflow'?" in record.getMessage()


def test_a_run_with_an_unknown_tracker_is_not_started(
    folder: Path, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTKIT_TRACKERS", "mflow")
    assert command("run", "p.toml") == (
        2,
        "",
        "ctkit: CTKIT_TRACKERS: there is no tracker 'mflow'; did you mean 'mlflow'?\n",
    )
    assert not (folder / "runs").exists()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What a library in the place of wandb is told by its settings; it starts no run."""
    told: dict[str, object] = {}

    class Settings:
        model_fields: ClassVar = {"console", "silent", "disable_git", "save_code", "x_disable_meta"}

        def __init__(self, **settings: object) -> None:
            told.update(settings)

    library = SimpleNamespace(__version__="9.9", Settings=Settings, init=dict)
    monkeypatch.setitem(sys.modules, "wandb", library)  # type: ignore[arg-type]  # as much of it as is asked for
    monkeypatch.delitem(sys.modules, "ctkit_trackers.wandb", raising=False)
    yield told
    sys.modules.pop("ctkit_trackers.wandb", None)


def test_wandb_is_told_to_send_no_command_line_machine_or_packages(follow: Follow, settings: dict[str, object]) -> None:
    sys.modules["wandb"].Settings.model_fields |= {"x_disable_machine_info", "x_save_requirements"}
    follow("wandb")
    private = {"x_disable_meta": True, "x_disable_machine_info": True, "x_save_requirements": False}
    assert private.items() <= settings.items()


def test_a_wandb_that_cannot_be_told_so_is_a_warning_and_is_told_nothing(
    follow: Follow, settings: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        follow("wandb")
    assert "wandb 9.9 has no setting 'x_disable_machine_info', without which it would send paths" in caplog.text
    assert settings == {}


def test_what_an_earlier_start_left_is_not_handed_over_as_this_ones(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, items = [], []

    class Noting(Tracker):
        def __init__(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
            """Begin."""

        def metric(self, item: str, name: str, value: float, step: int) -> None:
            items.append(item)

        def file(self, path: Path) -> None:
            files.append(path.name)

        def end(self, *, finished: bool) -> None:
            """End."""

    monkeypatch.setitem(tracking._TRACKERS, "noting", lambda: Noting)
    folder = follow("noting")
    assert (files, items[-2:]) == (
        ["report.html", "results.csv"],
        ["score/hash6/simclr/lesions/knn/labels-1", "score/untrained/lesions/knn/labels-1"],
    )

    registry, run = Registry(), RunInfo("study", folder, CONFIG)
    registry.manager.register(ctkit_trackers)
    files.clear()
    items.clear()
    registry.notify("ctkit_run_started", run=run)
    write_text(folder / "report.html", "<title>study</title>")
    registry.notify("ctkit_run_failed", run=run, error=KeyboardInterrupt())
    assert (files, items) == (["report.html"], [])


def test_a_run_is_closed_whatever_a_tracker_refuses_and_the_others_are_told(
    follow: Follow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []

    class Refusing(Tracker):
        def __init__(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
            """Begin."""

        def metric(self, item: str, name: str, value: float, step: int) -> None:
            raise ValueError("no such key")

        def file(self, path: Path) -> None:
            raise OSError("no room")

        def end(self, *, finished: bool) -> None:
            told.append(finished)

    class Noting(Refusing):
        def metric(self, item: str, name: str, value: float, step: int) -> None:
            told.append(name)

        def file(self, path: Path) -> None:
            told.append(path.name)

    monkeypatch.setitem(tracking._TRACKERS, "refusing", lambda: Refusing)
    monkeypatch.setitem(tracking._TRACKERS, "noting", lambda: Noting)
    with caplog.at_level(logging.WARNING):
        follow("refusing,noting")
    assert told == [*("loss", "loss", "seconds"), True, "auc", "auc", "report.html", "results.csv", True]
    said = [record.getMessage() for record in caplog.records]
    assert any("refusing rejected loss of pretrain hash6+ simclr seed-42: no such key" in text for text in said)
    assert any("refusing rejected auc of score hash6 simclr lesions knn labels-1: no" in text for text in said)


def test_mlflow_closes_a_run_whose_parameter_it_refuses_and_the_next_tracker_starts(
    follow: Follow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[object] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> object:
            return SimpleNamespace(experiment_id="0")

        def create_run(self, experiment: str, run_name: str) -> object:
            return SimpleNamespace(info=SimpleNamespace(run_id="r"))

        def log_param(self, run: str, key: str, value: str) -> None:
            raise ValueError("changing values is not allowed")

        def set_terminated(self, run: str, status: str) -> None:
            ended.append(status)

    class Noting(Tracker):
        def __init__(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
            """Begin."""

        def metric(self, item: str, name: str, value: float, step: int) -> None:
            """Take it."""

        def file(self, path: Path) -> None:
            """Take it."""

        def end(self, *, finished: bool) -> None:
            ended.append(finished)

    monkeypatch.setitem(sys.modules, "mlflow.tracking", SimpleNamespace(MlflowClient=Client))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace())  # type: ignore[arg-type]  # all that is asked for
    monkeypatch.delitem(sys.modules, "ctkit_trackers.mlflow", raising=False)
    monkeypatch.setitem(tracking._TRACKERS, "noting", lambda: Noting)
    with caplog.at_level(logging.WARNING):
        follow("mlflow,noting")
    sys.modules.pop("ctkit_trackers.mlflow", None)
    assert ended == ["FAILED", True]
    assert "mlflow rejected the parameter run.name: changing values is not allowed" in caplog.text


def test_a_missing_library_is_a_warning_that_says_what_to_install(
    follow: Follow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    monkeypatch.delitem(sys.modules, "ctkit_trackers.mlflow", raising=False)
    with caplog.at_level(logging.WARNING):
        follow("mlflow")
    assert "the tracker mlflow needs its library: pip install 'ctkit-ssl[mlflow]'" in caplog.text


@pytest.mark.filterwarnings("ignore")  # its own, and those of what it brings
def test_mlflow_holds_parameters_curves_scores_and_files(
    follow: Follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    follow("mlflow")
    client = MlflowClient()
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

    follow("mlflow", fails=True)
    assert {run.info.status for run in client.search_runs([experiment.experiment_id])} == {"FINISHED", "FAILED"}


@pytest.mark.filterwarnings("ignore")  # its own, and those of what it brings
def test_wandb_keeps_all_of_it_here_when_it_is_offline_and_no_path_of_the_command_line(
    follow: Follow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["ctkit", "run", "--set", f"dataset.labels={tmp_path / 'a-file-of-patients.csv'}"])
    folder = follow("wandb")
    (record,) = folder.rglob("*.wandb")
    until = time.monotonic() + 60  # its own process writes, and on a busy machine later than the run ends
    while b"report.html" not in (written := record.read_bytes()) and time.monotonic() < until:
        time.sleep(0.1)
    for text in ("reduce.hash6.steps.0.scope", "pretrain/hash6+/simclr/seed-42/loss", "score/hash6/simclr/lesions/knn"):
        assert text.encode() in written
    assert b"report.html" in written
    assert b"volumes.csv" not in written
    assert str(tmp_path / "a-file-of-patients.csv").encode() not in written
    assert not list(folder.rglob("requirements.txt"))
