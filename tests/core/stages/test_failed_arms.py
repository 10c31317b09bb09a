"""An arm that fails before it is trained on fails alone, says why, and is tried again by the next start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctkit import open_run, plugins

Run = Callable[..., tuple[int, str, str]]

PLUGIN = '''\
import pathlib
import numpy as np
from ctkit.contracts import Decision, Params, Reducer, knob
from ctkit.errors import DataError
from ctkit.hookspecs import Spec, hookimpl

class UnluckyParams(Params):
    threshold: float = knob(0, low=0, high=255, unit="grey levels", description="least brightness")

class Unlucky(Reducer[UnluckyParams]):
    """Keeps what is bright; its weights are gone while there is a file "describe", its judgement while "select"."""

    evidence = "slice"

    def describe(self, slices):
        if pathlib.Path("describe").exists():
            raise DataError("no weights in /home/somebody/.cache/weights.pt; fetch them")
        return slices.grey.mean(axis=(1, 2))

    def select(self, group, at, rng):
        if pathlib.Path("select").exists():
            raise DataError("no judgement today")
        return Decision(group.evidence >= at)

@hookimpl
def ctkit_register_reducers():
    return [Spec("unlucky", "keeps what is bright", "unlucky:Unlucky")]
'''
STUDY = """
[run]
name = "small"
[compute]
workers = 1
device = "cpu"
[dataset]
use = "phantom"
patients = 2
slices = 6
matrix = 64
size = 32
[report]
images = false
[[reduce]]
id = "every-2"
use = "every-n"
n = 2
[[reduce]]
id = "unlucky"
use = "unlucky"
[[reduce]]
id = "like"
use = "random"
keep = { like = "unlucky" }
[[pretrain]]
use = "mean"
[[task]]
use = "coins"
protocol = "guess"
"""
REASON = {
    "describe": "reducer 'unlucky' failed to describe a volume: DataError: no weights in",
    "select": "no judgement today",
}


@pytest.fixture
def study(tmp_path: Path, toys: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    info = tmp_path / "site" / "unlucky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unlucky\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nunlucky = unlucky\n")
    (tmp_path / "site" / "unlucky.py").write_text(PLUGIN)
    plugins.load.cache_clear()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(STUDY)
    yield tmp_path
    plugins.load.cache_clear()


def facts(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / "runs" / "small" / "run.json").read_text())
    return found


def scored(study: Path) -> set[str]:
    return {row.arm for row in open_run(study / "runs" / "small").score_rows}


@pytest.mark.parametrize("stage", ["describe", "select"])
def test_an_arm_fails_alone_and_is_tried_again(study: Path, command: Run, stage: str) -> None:
    (study / stage).touch()
    code, out, err = command("run", "p.toml")
    assert code == 1
    assert "2 parts of the run failed" in err
    assert "failed in part; report: " in out
    found = facts(study)
    assert found["state"] == "failed in part"
    assert found["at"] is None
    (own, like) = found["failures"]
    assert (own["stage"], own["item"]) == (stage, "unlucky")
    assert REASON[stage] in own["reason"]
    assert like["item"].partition("/")[0] == "like"
    assert like["reason"] == "it takes its size from unlucky, which failed"
    assert scored(study) == {"every-2"}
    assert not (study / "runs" / "small" / "arms" / "unlucky").exists()
    page = (study / "runs" / "small" / "report.html").read_text()
    said = {"describe": "Describing", "select": "Selection"}[stage]
    assert f"{said} of unlucky failed: " in page
    assert "it takes its size from unlucky, which failed" in page
    assert "no selection" not in page
    assert "/home/somebody" not in page

    (study / stage).unlink()
    assert command("run", "p.toml")[0] == 0
    found = facts(study)
    assert (found["state"], found["failures"]) == ("done", [])
    kept = [one["item"] for one in found["stages"] if one["stage"] == "pretrain" and one["cached"]]
    assert "every-2/mean/seed-42" in kept
    assert scored(study) == {"every-2", "unlucky", "like"}
    assert f"{said} of unlucky failed" not in (study / "runs" / "small" / "report.html").read_text()


@pytest.mark.parametrize("stage", ["describe", "select"])
def test_where_every_arm_fails_the_run_does(study: Path, command: Run, stage: str) -> None:
    (study / "p.toml").write_text(
        STUDY.replace('id = "every-2"\nuse = "every-n"\nn = 2', 'use = "unlucky"\nid = "first"')
    )
    (study / stage).touch()
    code, _, err = command("run", "p.toml")
    assert code == 1
    assert REASON[stage] in err.splitlines()[-1]
    assert facts(study)["state"] == "failed"


def test_a_baseline_without_its_grey_levels_fails_and_leaves_the_arms(study: Path, command: Run) -> None:
    first, second = STUDY.index('[[reduce]]\nid = "every'), STUDY.index('[[reduce]]\nid = "unlucky')
    text = STUDY[:first] + STUDY[second:].replace("[[pretrain]]", STUDY[first:second] + "[[pretrain]]")
    (study / "p.toml").write_text(text + '[[baseline]]\nuse = "mean"\nid = "start"\n')
    (study / "describe").touch()
    assert command("run", "p.toml")[0] == 1
    assert [(one["stage"], one["item"]) for one in facts(study)["failures"]] == [
        ("describe", "unlucky"),
        ("select", "like"),
        ("pretrain", "start"),
    ]
    assert scored(study) == {"every-2"}
    (study / "describe").unlink()
    assert command("run", "p.toml")[0] == 0
    assert scored(study) == {"every-2", "unlucky", "like", "start"}


def test_what_a_failed_arm_has_shown_stays_only_while_it_is_true(study: Path, command: Run) -> None:
    assert command("run", "p.toml")[0] == 0
    shown = study / "runs" / "small" / "arms" / "unlucky" / "selection.csv"
    (study / "select").touch()
    for path in (study / "runs" / ".cache" / "selection").rglob("selection.npz"):
        path.unlink()
    assert command("run", "p.toml")[0] == 1
    assert shown.exists()
    assert command("run", "p.toml", "--set", "reduce.unlucky.threshold=100")[0] == 1
    assert not shown.exists()
    assert scored(study) == {"every-2"}


def test_a_part_of_a_run_is_without_what_fails(study: Path, command: Run) -> None:
    (study / "describe").touch()
    code, _, err = command("run", "p.toml", "--only", "arm=like", "--only", "arm=every-2")
    assert code == 1
    assert REASON["describe"] in err
    assert scored(study) == {"every-2"}
    assert command("run", "p.toml", "--only", "arm=every-2")[0] == 0
