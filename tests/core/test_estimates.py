"""What a dry run says that describing would cost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctkit import config, dry_run, estimates, pipeline, plugins
from ctkit.console import Console


def opened(tmp_path: Path, *reducers: dict[str, Any]) -> Any:
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
        "compute": {"workers": 2},
        "dataset": {"use": "phantom", "patients": 3, "slices": 20, "matrix": 64},
        "reduce": list(reducers),
    }
    registry = plugins.load()
    resolved = config.resolve(document, registry, tmp_path)
    pipeline.run(resolved, registry, Console(quiet=True), "scan")
    return pipeline.open_session(resolved, registry, Console(quiet=True), pipeline.run_folder(resolved))


def test_a_dry_run_says_pairs_time_and_size_before_anything_is_described(tmp_path: Path) -> None:
    session = opened(tmp_path, {"use": "ssim", "threshold": 0.2}, {"use": "hash"})
    before = sorted(tmp_path.rglob("*"))
    (line,) = (line for line in dry_run.plan(session) if line.stage == "describe")
    pairs = 3 * 20 * 19 // 2
    assert line.state == "to do"
    assert f"{pairs} pairs of slices to compare for ssim" in line.detail
    assert "about 0:0" in line.detail
    assert f"with 2 workers, {(4 * pairs + 8 * 60) / 1000:.0f} kB of evidence" in line.detail
    assert sorted(tmp_path.rglob("*")) == before


def test_pairs_grow_with_the_square_and_accelerator_work_is_not_shared() -> None:
    slices = estimates._Rate("slice", False, 0.5, 8)
    pairs = estimates._Rate("pair", True, 0.1, 4)
    cost = estimates._scaled(estimates._Trial(1.0, (slices, pairs)), np.array([4, 10]), workers=2)
    assert cost.seconds == pytest.approx((14 * 1.0 + 14 * 0.5) / 2 + (6 + 45) * 0.1)
    assert cost.size == 14 * 8 + 51 * 4


def test_a_volume_that_cannot_be_tried_has_no_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(tmp_path, {"use": "hash"})
    monkeypatch.setattr(estimates, "_try", time.sleep)  # a list of reducers is no number of seconds: it raises
    (line,) = (line for line in dry_run.plan(session) if line.stage == "describe")
    assert line.detail == "3 of 3 volumes to decode"
