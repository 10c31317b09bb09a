"""Which curves a run makes unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctkit
from ctkit import pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.errors import DataError
from ctkit.stages import curve
from ctkit.storage.records import CurveRow, read_rows


def arms_with_a_curve(tmp_path: Path, *reducers: dict[str, Any], asked: bool = False) -> set[str]:
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run"), "curve": asked},
        "compute": {"workers": 1},
        "dataset": {"use": "phantom", "patients": 2, "slices": 6, "matrix": 32},
        "reduce": list(reducers),
    }
    registry = plugins.load()
    runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, Console(quiet=True))
    return {path.parent.name for path in (tmp_path / "run" / "arms").glob("*/curve.csv")}


def test_a_curve_is_made_unasked_only_where_that_is_cheap(tmp_path: Path) -> None:
    reducers: list[dict[str, Any]] = [
        {"id": "hash", "use": "hash"},
        {"id": "budget", "use": "hash", "keep": {"share": 0.5}},
        {"id": "data-set", "use": "hash", "scope": "dataset"},
        {"id": "steps", "steps": [{"use": "entropy", "threshold": 1}, {"use": "hash"}]},
        {"id": "pairs", "use": "ssim", "threshold": 0.2},
        {"id": "real", "use": "entropy", "threshold": 3},
        {"id": "none", "use": "all"},
    ]
    assert arms_with_a_curve(tmp_path, *reducers) == {"hash", "budget"}


def test_a_large_data_set_has_its_curve_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "UNASKED", 11)
    assert arms_with_a_curve(tmp_path, {"id": "hash", "use": "hash"}) == set()


def test_another_threshold_counts_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms_with_a_curve(tmp_path, {"id": "hash", "use": "hash"})
    monkeypatch.setattr("ctkit.slices.selection.curve", lambda *_: pytest.fail("counted again"))
    assert arms_with_a_curve(tmp_path, {"id": "hash", "use": "hash", "threshold": 2}) == {"hash"}


def test_a_fixed_threshold_leaves_pairs_out_which_a_curve_says_or_compares(tmp_path: Path) -> None:
    arm = {"id": "pairs", "use": "ssim", "threshold": 0.2}
    everything = {"id": "none", "use": "all"}
    assert arms_with_a_curve(tmp_path, arm, everything) == set()
    chosen = (tmp_path / "run" / "arms" / "pairs" / "selection.csv").read_bytes()
    with ctkit.open_run(tmp_path / "run").revisit("pairs") as opened:
        assert len(opened.to_previous(opened.slices_of(0))) == 6
        assert np.isfinite(opened.to_previous(opened.slices_of(0))[1:]).all()
        with pytest.raises(DataError, match=r"only the pairs that one threshold asks for: `curve = true` in \[run\]"):
            opened.write_curve()
    assert arms_with_a_curve(tmp_path, arm, everything, asked=True) == {"pairs"}
    assert (tmp_path / "run" / "arms" / "pairs" / "selection.csv").read_bytes() == chosen
    counts = {row.at: row.kept for row in read_rows(tmp_path / "run" / "arms" / "pairs" / "curve.csv", CurveRow)}
    with ctkit.open_run(tmp_path / "run").revisit("pairs") as opened:
        assert {row.at: row.kept for row in opened.write_curve()} == counts
    assert counts[0.0] == 12
    budget = {"id": "budget", "use": "ssim", "keep": {"count": counts[min(counts, key=lambda at: abs(at - 0.2))]}}
    arms_with_a_curve(tmp_path, arm, budget)  # a budget has all pairs compared, and the arm uses them
    assert (tmp_path / "run" / "arms" / "pairs" / "selection.csv").read_bytes() == chosen
