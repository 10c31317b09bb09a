"""A run that is killed in any stage goes on where it stopped and ends as an undisturbed one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PIPELINE = """\
[run]
name = "survivor"
[compute]
device = "cpu"
workers = 2
[dataset]
use = "phantom"
patients = 4
slices = 24
matrix = 64
size = 48
[[reduce]]
use = "every-n"
n = 2
[[reduce]]
id = "hash6"
use = "hash"
[[reduce]]
use = "random"
keep = { like = "hash6" }
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
batch = 16
steps = 6
log_every = 1
checkpoint_minutes = 0
[[task]]
use = "phantom-lesions"
train = 12
val = 6
test = 12
size = 48
protocol = [{ use = "linear", size = 48 }, { use = "knn", size = 48 }]
"""

#: A tracker that is no friend of runs: it kills its own process, as a power cut would.
KILLER = """\
import os, signal, threading
from ctkit.hookspecs import hookimpl

STAGE, DELAY = os.environ.get("KILL", ":0").split(":")

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def ctkit_stage_started(stage, item):
    if stage == STAGE:
        threading.Timer(float(DELAY), kill).start() if float(DELAY) else kill()

@hookimpl
def ctkit_stage_finished(stage):
    if stage == STAGE:  # it was faster than the timer
        kill()

@hookimpl(trylast=True)
def ctkit_run_outputs(run):
    if STAGE == "outputs":  # the report is written, the stage has not ended
        kill()

@hookimpl
def ctkit_metric_logged(name, step):
    if STAGE == "metric" and name == "loss" and step >= int(DELAY):
        kill()
"""
Start = Callable[..., int]
#: Stages in the order of a run, each with the seconds after its start when the power goes, at the latest as it ends.
#: "metric" counts steps, "outputs" is the end of the stage "report".
KILLS = ("scan:0", "describe:0.3", "select:0", "materialise:0", "metric:4", "evaluate:0.2", "pictures:0", "outputs:0")


@pytest.fixture
def killer(tmp_path: Path) -> Path:
    """A folder that holds the tracker as an installed distribution."""
    folder = tmp_path / "site"
    info = folder / "killer-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "killer.py").write_text(KILLER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: killer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nkiller = killer\n")
    return folder


#: Imports what a run does, which takes seconds, and becomes a process of its own for each run that is asked for.
RUNS = """\
import atexit, os, sys
import ctkit_models.simclr, ctkit_models.engine, matplotlib.pyplot, sklearn.linear_model, tensorboard.summary
from ctkit.cli import main
for line in sys.stdin:
    folder, os.environ["KILL"] = line.split()
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        main(["run", "p.toml"])
    except SystemExit as left:
        atexit._run_exitfuncs()
        os._exit(left.code)
"""


@pytest.fixture
def start(killer: Path) -> Iterator[Start]:
    """Run the pipeline in a folder, in a process that is killed as told; return its exit code."""
    paths = os.pathsep.join([str(killer), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment.pop("CTKIT_CACHE", None)
    command = [sys.executable, "-c", RUNS]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runs:
        assert runs.stdin is not None
        assert runs.stdout is not None

        def _start(folder: Path, kill: str = ":0") -> int:
            print(folder, kill, file=runs.stdin, flush=True)
            return int(runs.stdout.readline())

        yield _start
        runs.stdin.close()


def results(folder: Path) -> dict[str, bytes]:
    """Everything a run leaves but what holds times, and pictures of them."""
    run = folder / "runs" / "survivor"
    names = [*run.rglob("*.csv"), *run.rglob("*.safetensors"), *run.rglob("pictures.npz")]
    return {str(path.relative_to(run)): path.read_bytes() for path in names}


def curves(folder: Path) -> tuple[list[Any], list[Any]]:
    """The losses of each training, by its history and as TensorBoard reads its files."""
    run = folder / "runs" / "survivor"
    histories, shown = [], []
    for file in sorted(run.glob("arms/**/history.csv")):
        rows = [row.split(",") for row in file.read_text().splitlines()]
        histories.append([(int(step), float(value)) for step, name, value in rows if name == "loss"])
        events = EventAccumulator(str(run / "tensorboard" / file.parent.relative_to(run / "arms")))
        shown.append([(event.step, pytest.approx(event.value)) for event in events.Reload().Scalars("loss")])
    return histories, shown


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(tmp_path: Path, start: Start) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    for folder in (calm, stormy):
        folder.mkdir()
        (folder / "p.toml").write_text(PIPELINE)
    assert start(calm) == 0, (calm / "said.txt").read_text()

    (stormy / "runs" / ".cache").mkdir(parents=True)
    shutil.copy(calm / "runs" / ".cache" / "salt", stormy / "runs" / ".cache" / "salt")
    for kill in KILLS:
        assert start(stormy, kill) == -signal.SIGKILL, kill
    assert start(stormy) == 0, (stormy / "said.txt").read_text()

    assert results(stormy) == results(calm)
    histories, shown = curves(stormy)
    assert len(histories) > 1
    assert histories == shown, "no loss is doubled or lost"
    facts = json.loads((stormy / "runs" / "survivor" / "run.json").read_text())
    assert facts["state"] == "done"
    assert {stage["stage"] for stage in facts["stages"] if not stage["cached"]} == {"report"}
    assert not list((stormy / "runs" / ".cache" / "unfinished").rglob("*.ckpt"))
