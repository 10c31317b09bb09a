"""``ctkit curve``, ``explain`` and ``report`` on the folder of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctkit import CurveRow
from ctkit.files import read_csv
from ctkit_reports.commands import bends

Run = Callable[..., tuple[int, str, str]]


def test_a_run_that_had_a_gpu_is_looked_at_where_there_is_none(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctkit.compute.devices.cuda_devices", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert command("run", "p.toml", "--until", "select", "--set", "compute.device=cuda")[0] == 0
    monkeypatch.setattr("ctkit.compute.devices.cuda_devices", lambda: 0)
    code, out, err = command("curve", "runs/small", "hash6")
    assert (code, err) == (0, "")
    assert "kept" in out


def test_a_curve_agrees_with_the_selection_and_is_plotted_on_request(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "report")
    run = folder / "runs" / "small"
    record = (run / "run.json").read_bytes()
    code, out, _ = command("curve", str(run), "hash6", "--json")
    assert code == 0
    printed = [json.loads(line) for line in out.splitlines()]
    kept = {row["at"]: row["kept"] for row in printed if row["event"] == "row"}
    rows = read_csv(run / "arms" / "hash6" / "selection.csv")
    assert list(kept) == list(range(65))
    assert kept[6] == sum(row["kept"] == "true" for row in rows)
    assert (run / "arms" / "hash6" / "curve.svg").is_file()
    assert (run / "run.json").read_bytes() == record


def test_a_curve_is_printed_where_it_bends(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "report")
    code, out, _ = command("curve", "runs/small", "hash6")
    header, *lines = out.splitlines()
    rows = read_csv(folder / "runs" / "small" / "arms" / "hash6" / "curve.csv")
    shown = [line.split() for line in lines[:-2]]
    assert (code, header.split()) == (0, ["at", "kept", "share"])
    assert {(float(at), int(kept)) for at, kept, *_ in shown} <= {(float(r["at"]), int(r["kept"])) for r in rows}
    assert {"0", "6", "64"} <= {at for at, *_ in shown}
    assert lines[-2].startswith(f"{len(shown)} of 65 thresholds, where the curve bends; all: ")
    assert len(shown) < 30


@given(st.lists(st.integers(0, 100), min_size=2, max_size=60), st.integers(0, 59))
def test_lines_between_the_rows_printed_miss_no_other(kept: list[int], own: int) -> None:
    curve = [CurveRow(float(at), count, count / 100) for at, count in enumerate(kept)]
    shown = bends(curve, float(own))
    line = np.interp(range(len(kept)), [row.at for row in shown], [row.share for row in shown])
    assert np.abs(line - np.array(kept) / 100).max() <= 0.02 + 1e-9
    assert own >= len(kept) or curve[own] in shown
    assert [shown[0], shown[-1]] == [curve[0], curve[-1]]


def test_a_plotted_curve_goes_with_the_selection_that_it_marks(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    arm = folder / "runs" / "small" / "arms" / "hash6"
    command("curve", str(arm.parent.parent), "hash6")
    command("run", "p.toml", "--until", "select")
    assert (arm / "curve.svg").exists()
    command("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    assert not (arm / "curve.svg").exists()


def test_an_arm_is_explained_on_a_page_that_goes_with_its_selection(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    page = folder / "runs" / "small" / "arms" / "hash6" / "explain.html"
    code, out, _ = command("explain", "runs/small", "hash6")
    assert code == 0
    assert page.is_file()
    assert "explanation: " in out
    command("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    assert not page.exists()


@pytest.mark.parametrize(
    ("run", "arm", "message"),
    [
        ("nowhere", "all", "nowhere is not a run folder"),
        ("runs/small", "hsah6", "has no arm 'hsah6'; did you mean 'hash6'?"),
        ("runs/small", "all", "arm 'all' has no curve: all has no knob"),
    ],
)
def test_a_curve_of_nothing_is_refused(folder: Path, command: Run, run: str, arm: str, message: str) -> None:
    command("run", "p.toml", "--until", "select")
    code, _, err = command("curve", run, arm)
    assert code == 2
    assert message in err


def test_a_run_whose_data_changed_is_not_opened_again(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    shutil.rmtree(folder / "runs" / ".cache" / "selection")
    code, _, err = command("curve", "runs/small", "hash6")
    assert code == 2
    assert "run it again" in err


def test_pixels_leave_the_run_folder_once_they_are_not_to_be_shown(folder: Path, command: Run) -> None:
    run = folder / "runs" / "small"
    command("run", "p.toml")
    command("explain", "runs/small", "hash6")
    assert len(list(run.rglob("pictures.npz"))) == 3
    assert "data:image/jpeg" in (run / "report.html").read_text()
    command("run", "p.toml", "--set", "report.images=false")
    assert not [*run.rglob("pictures.npz"), *run.rglob("explain.html")]
    assert "data:image/jpeg" not in (run / "report.html").read_text()
    command("run", "p.toml")
    assert "data:image/jpeg" in (run / "report.html").read_text()
