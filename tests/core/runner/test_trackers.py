"""Trackers of a run: what they are told, in which words, and that whatever they raise stops nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ctkit import plugins
from ctkit.contracts import NoParams, Tracker
from ctkit.hookspecs import RunInfo
from ctkit.pipeline_file import Chosen
from ctkit.plugins import Registry
from ctkit.runner.trackers import flat
from following import CONFIG, follow

RUN = """\
[run]
name = "study"
[compute]
workers = 1
device = "cpu"
[dataset]
use = "phantom"
patients = 1
slices = 4
matrix = 32
[[reduce]]
use = "all"
"""
Command = Callable[..., tuple[int, str, str]]


class Noting(Tracker[NoParams]):
    """Notes all that it is told."""

    def start(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        self.told: list[Any] = [run.name]

    def metric(self, item: str, name: str, value: float, step: int) -> None:
        self.told.append((item, name, value, step))

    def file(self, path: Path) -> None:
        self.told.append(path.name)

    def end(self, *, finished: bool) -> None:
        self.told.append(finished)


class EndError(BaseException):
    """As SystemExit, no Exception."""


class Refusing(Noting):
    """Takes nothing but the end."""

    def metric(self, item: str, name: str, value: float, step: int) -> None:
        raise ValueError("no such key as /home/anna/key")

    def file(self, path: Path) -> None:
        raise EndError(3)


class Absent(Noting):
    """Cannot begin."""

    def start(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        self.told = []
        raise ConnectionError("no server")


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


@pytest.mark.parametrize("fails", [False, True])
def test_a_tracker_hears_of_numbers_durations_pooled_scores_and_files(tmp_path: Path, fails: bool) -> None:
    tracker, item = Noting(), "pretrain/hash6+/simclr/seed-42"
    follow(tmp_path, tracker, fails=fails)
    assert tracker.told == [
        "study",
        (item, "loss", 3.5, 1),
        (item, "loss", 2.25, 2),
        (item, "seconds", 7.5, 0),
        ("score/hash6/simclr/lesions/knn/labels-1", "auc", 0.8, 0),
        ("score/untrained/lesions/knn/labels-1", "auc", 0.5, 0),
        "report.html",
        "results.csv",
        not fails,
    ]


def test_what_an_earlier_start_left_is_not_handed_over_as_this_ones(tmp_path: Path) -> None:
    follow(tmp_path, Noting())
    tracker = Noting()
    follow(tmp_path, tracker, writes=())
    assert tracker.told[-2:] == [("pretrain/hash6+/simclr/seed-42", "seconds", 7.5, 0), True]


def test_a_record_is_closed_whatever_its_tracker_refuses_and_the_others_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    absent, refusing, noting = Absent(), Refusing(), Noting()
    with caplog.at_level(logging.WARNING):
        follow(tmp_path, absent, refusing, noting)
    assert (absent.told, refusing.told) == ([], ["study", True])
    assert len(noting.told) == 9
    assert [record.getMessage() for record in caplog.records] == [
        "tracker 'absent' failed in start: ConnectionError: no server; the run goes on",
        "tracker 'refusing' failed in metric for loss of pretrain hash6+ simclr seed-42: ValueError: no such key as …;"
        " the run goes on",
        "tracker 'refusing' failed in file for report.html: EndError: 3; the run goes on",
    ]


def test_no_tracker_hears_of_the_next_run(tmp_path: Path) -> None:
    registry, tracker = Registry(), Noting()
    follow(tmp_path, tracker, registry=registry)
    told = list(tracker.told)
    registry.notify("ctkit_run_started", run=RunInfo("next", tmp_path, {}))
    assert tracker.told == told
    assert registry.manager.list_name_plugin() == []


def test_a_run_with_an_unknown_tracker_is_not_started(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(RUN)
    monkeypatch.setenv("CTKIT_TRACKERS", "mflow")
    code, _, error = command("run", "p.toml")
    assert (code, error.partition(" (see")[0]) == (
        2,
        "ctkit: CTKIT_TRACKERS: there is no tracker 'mflow'; did you mean 'mlflow'?",
    )
    monkeypatch.delenv("CTKIT_TRACKERS")
    (tmp_path / "p.toml").write_text(RUN + '[[track]]\nuse = "mlflow"\nexperimnt = "x"\n')
    code, _, error = command("run", "p.toml")
    assert (code, error) == (
        2,
        "ctkit: p.toml:15: track[0].experimnt: unknown key; did you mean 'experiment'?\n",
    )
    assert not (tmp_path / "runs").exists()


def test_trackers_of_the_file_and_of_the_environment_are_in_run_json(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(RUN + '[[track]]\nuse = "mlflow"\nexperiment = "lung"\n')
    monkeypatch.setenv("CTKIT_TRACKERS", "mlflow,wandb")
    told: list[Noting] = []

    def build(chosen: Any) -> Any:
        if chosen.entry.kind != "tracker":
            return real(chosen)
        told.append(Noting())
        return told[-1]

    real = Chosen.build
    monkeypatch.setattr(Chosen, "build", build)
    monkeypatch.setattr("ctkit.runner.checks.missing_packages", lambda *_: "")
    assert command("run", "p.toml", "-q")[0] == 0
    document = json.loads((tmp_path / "runs/study/run.json").read_text())["pipeline"]
    assert document["track"] == [
        {"use": "ctkit-ssl:mlflow", "uri": None, "experiment": "lung"},
        {"use": "ctkit-ssl:wandb", "project": None, "entity": None, "group": None, "mode": None},
    ]
    followed = [tracker.told for tracker in told if hasattr(tracker, "told")]
    assert len(followed) == 2
    assert all(one[0] == "study" and one[-1] is True and "report.html" in one for one in followed)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_library_is_said_with_what_to_install_before_anything_starts(
    name: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plugins.load().find("tracker", name).status == "ok":
        pytest.skip(f"{name} is installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(f'{RUN}[[track]]\nuse = "{name}"\n')
    code, _, error = command("run", "p.toml")
    assert code == 2
    assert error == f"ctkit: packages are missing for tracker '{name}': pip install 'ctkit-ssl[{name}]'\n"


def test_a_tracker_is_described_like_any_plugin(command: Command) -> None:
    code, out, _ = command("describe", "tracker", "wandb")
    assert code == 0
    assert 'project  string | none, default none\n      none: that of WANDB_PROJECT, or "ctkit"' in out
