"""Which curves a run makes unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.stages import curve


def arms_with_a_curve(tmp_path: Path, *reducers: dict[str, Any]) -> set[str]:
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
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
