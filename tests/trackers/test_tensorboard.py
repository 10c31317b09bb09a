from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ctkit import plugins
from ctkit.hookspecs import RunInfo
from ctkit_trackers import tensorboard

ITEM = "hash6/simclr/seed-42"
Points = list[tuple[int, float]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunInfo]:
    info = RunInfo("study", tmp_path / "study", {})
    yield info
    tensorboard.ctkit_run_finished(info)


def log(run: RunInfo, steps: range, name: str = "loss") -> None:
    for step in steps:
        tensorboard.ctkit_metric_logged(run, ITEM, name, 1 / step, step)


def curve(run: RunInfo, name: str = "loss") -> Points:
    """What TensorBoard itself reads."""
    events = EventAccumulator(str(run.folder / "tensorboard" / ITEM), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def expected(steps: range) -> Points:
    return [(step, pytest.approx(1 / step)) for step in steps]


def test_the_tracker_comes_in_by_the_same_door_as_others() -> None:
    assert "ctkit-ssl:ctkit-tensorboard" in {name for name, _ in plugins.load().manager.list_name_plugin()}


def test_tensorboard_shows_every_number_while_the_training_goes_on(run: RunInfo) -> None:
    log(run, range(1, 6))
    log(run, range(2, 4), "effective-rank")
    assert curve(run) == expected(range(1, 6))
    assert curve(run, "effective-rank") == expected(range(2, 4))


def test_a_training_that_goes_on_doubles_and_loses_nothing(run: RunInfo) -> None:
    log(run, range(1, 8))
    tensorboard.ctkit_run_failed(run)
    log(run, range(5, 11))  # its last checkpoint was after step 4
    tensorboard.ctkit_stage_finished(run, ITEM)
    assert curve(run) == expected(range(1, 11))


def test_a_training_anew_under_the_same_name_replaces_the_curve(run: RunInfo) -> None:
    log(run, range(1, 8))
    tensorboard.ctkit_stage_finished(run, ITEM)
    log(run, range(1, 4))
    assert curve(run) == expected(range(1, 4))


KILLED = """
import os, signal, sys
from pathlib import Path
from ctkit.hookspecs import RunInfo
from ctkit_trackers import tensorboard
run = RunInfo("study", Path(sys.argv[1]), {})
for step in range(1, 8):
    tensorboard.ctkit_metric_logged(run, sys.argv[2], "loss", 1 / step, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_power_cut_loses_no_number(run: RunInfo) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(run.folder), ITEM], check=False)
    assert curve(run) == expected(range(1, 8))


def test_runs_are_closed_one_by_one(run: RunInfo, tmp_path: Path) -> None:
    other = RunInfo("other", tmp_path / "other", {})
    for one in (run, other):
        log(one, range(1, 3))
    tensorboard.ctkit_run_finished(other)
    log(run, range(3, 5))
    assert len(list((run.folder / "tensorboard" / ITEM).iterdir())) == 1
    assert curve(run) == expected(range(1, 5))
