"""Spread of scores, and corrected p values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ctkit.contracts import Difference
from ctkit.stages.compare import adjust, holm, spread


def test_spreads_are_of_the_means_of_seeds_and_inside_seeds() -> None:
    points = np.random.default_rng(0).normal(size=(4, 3))
    over_seeds, over_repeats = spread(points.tolist())
    assert over_seeds == pytest.approx(np.std(points.mean(axis=1), ddof=1))
    residuals = points - points.mean(axis=1, keepdims=True)
    assert over_repeats == pytest.approx(math.sqrt((residuals**2).sum() / (12 - 4)))  # of a one-way layout


def test_one_value_has_no_spread() -> None:
    assert all(map(math.isnan, spread([[0.8]])))
    over_seeds, over_repeats = spread([[0.8], [0.9]])
    assert over_seeds == pytest.approx(0.1 / math.sqrt(2))
    assert math.isnan(over_repeats)


def test_what_is_only_looked_at_costs_the_answer_no_power() -> None:
    """The first family is of the contrasts marked so, in the main metric of each; every other row is in the second."""
    p_values = {"auc": [0.01, 0.02, 0.03], "f1": [0.01, 0.02, 0.5], "ece": [0.001, math.nan, 0.2]}
    rows = [Difference(name, 0.1, 0.05, 0.15, p, "t") for name, values in p_values.items() for p in values]
    masks = [Difference(name, 0.1, 0.05, 0.15, p, "t") for name, p in {"dice": 0.04, "hd95": 0.6}.items()]
    adjusted = adjust([*(rows[contrast::3][::-1] for contrast in range(3)), masks], [True, False, True, True])
    assert [family for _, family in adjusted] == [
        *("secondary", "secondary", "primary"), *["secondary"] * 5, "primary", *("primary", "secondary")
    ]  # fmt: skip
    assert [p for p, family in adjusted if family == "primary"] == pytest.approx(holm([0.01, 0.03, 0.04]))
    rest = holm([0.001, 0.01, math.nan, 0.02, 0.02, 0.2, 0.5, 0.6])
    assert [p for p, family in adjusted if family == "secondary"] == pytest.approx(rest, nan_ok=True)


def test_p_values_are_corrected_by_holms_steps() -> None:
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 takes no less than the one before
    assert holm([0.01, 0.04, math.nan, 0.03, 0.005]) == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
