"""Ctrl-C or SIGTERM in a whole run: once saves the step at hand, twice stops at once, and the next start goes on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctkit import plugins, stopping
from ctkit.cli import main

PIPELINE = """\
[run]
name = "short"
[compute]
device = "cpu"
workers = 1
[dataset]
use = "phantom"
patients = 1
slices = 16
matrix = 32
size = 32
[[reduce]]
use = "all"
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
batch = 8
steps = 6
log_every = 1
"""

#: A tracker that sends a signal, such as that of Ctrl-C, after the second step, as often as it is told. It notes steps.
PRESSER = """\
import os, signal
from ctkit.hookspecs import hookimpl

@hookimpl
def ctkit_metric_logged(item, name, step):
    if name == "loss":
        with open("steps.txt", "a") as file:
            print(step, file=file)
    if (item, name, step) == ("all/simclr/seed-42", "loss", 2):
        for _ in range(int(os.environ["PRESSES"])):
            signal.raise_signal(int(os.environ["PRESSED"]))
"""


Start = Callable[..., tuple[int, str, dict[str, object], list[str]]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Start]:
    """Start the run; return its exit code, what it said, its ``run.json`` and its checkpoints."""
    info = tmp_path / "site" / "presser-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "presser.py").write_text(PRESSER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: presser\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\npresser = presser\n")
    (tmp_path / "p.toml").write_text(PIPELINE)
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins.load.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)

    def _start(
        presses: int, pressed: signal.Signals = signal.SIGINT, words: tuple[str, ...] = ()
    ) -> tuple[int, str, dict[str, object], list[str]]:
        monkeypatch.setenv("PRESSES", str(presses))
        monkeypatch.setenv("PRESSED", str(int(pressed)))
        with pytest.raises(SystemExit) as left:
            main(["run", "p.toml", *words])
        facts = json.loads(Path("runs/short/run.json").read_text())
        checkpoints = sorted(path.name for path in Path("runs/.cache").rglob("*.ckpt"))
        return int(left.value.code or 0), "".join(capfd.readouterr()), facts, checkpoints

    yield _start
    plugins.load.cache_clear()


def test_one_press_saves_the_step_two_stop_at_once_and_the_next_start_goes_on(start: Start) -> None:
    at = {"stage": "pretrain", "item": "all/simclr/seed-42"}
    code, _, facts, checkpoints = start(2)
    assert (code, facts["state"], facts["at"], checkpoints) == (130, "interrupted", at, [])

    code, said, facts, checkpoints = start(1)
    assert (code, facts["state"], facts["at"], checkpoints) == (130, "interrupted", at, ["step-0000000003.ckpt"])
    assert stopping.NOTICE in said
    assert said.splitlines()[-1] == "ctkit: interrupted; run the same command again to resume"

    Path("steps.txt").unlink()
    code, _, facts, _ = start(1)
    assert (code, facts["state"], facts["at"]) == (0, "done", None)
    assert Path("steps.txt").read_text().split() == ["4", "5", "6"]  # so its tracker saw no step 2


def test_a_run_that_is_terminated_saves_its_step_and_says_so_by_its_exit_code(start: Start) -> None:
    at = {"stage": "pretrain", "item": "all/simclr/seed-42"}
    code, _, facts, checkpoints = start(2, signal.SIGTERM)
    assert (code, facts["state"], facts["at"], checkpoints) == (143, "interrupted", at, [])
    code, said, facts, checkpoints = start(1, signal.SIGTERM)
    assert (code, facts["state"], facts["at"], checkpoints) == (143, "interrupted", at, ["step-0000000003.ckpt"])
    assert said.splitlines()[-1] == "ctkit: interrupted; run the same command again to resume"


def test_one_press_saves_the_steps_of_all_trainings_that_go_on_at_once(start: Start) -> None:
    words = ("--jobs", "2", "--set", "run.seeds=3", "--set", "pretrain.0.steps=5000")
    code, said, facts, checkpoints = start(1, words=words)
    assert (code, facts["state"], facts["jobs"], len(checkpoints)) == (130, "interrupted", 2, 2)
    assert said.count(stopping.NOTICE) == 1
    assert "seed-44" not in said
