"""Scores and comparisons of measures, against scipy's t tests and simulated truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ctkit.contracts import Predictions
from ctkit.errors import DataError
from ctkit_tasks.segment import Segment
from ctkit_tasks.segment_params import SegmentParams

PROTOCOL = Segment(SegmentParams())


def run(dice: np.ndarray, hd95: np.ndarray | None = None, seed: int | None = None) -> Predictions:
    n = len(dice)
    measures = {"dice": dice, "hd95": 10 - dice if hd95 is None else hd95}
    names = tuple(f"volume {number}" for number in range(n))
    return Predictions(names, np.zeros(n, np.int64), np.zeros((n, 0)), (), measures=measures, seed=seed)


def values(seed: int, n: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.3, 0.8, n)


def test_a_score_is_the_mean_over_patients_with_the_interval_of_students_t() -> None:
    dice = values(0)
    score = PROTOCOL.scores([run(dice)])[0]
    expected = stats.t.interval(0.95, 11, dice.mean(), stats.sem(dice))
    assert (score.metric, score.value) == ("dice", pytest.approx(dice.mean()))
    assert (score.low, score.high) == pytest.approx(expected)


def test_volumes_of_a_patient_count_as_their_mean() -> None:
    dice = values(1, 8)
    twice = replace(run(dice), patients=tuple("aabbccdd"))
    means = dice.reshape(4, 2).mean(axis=1)
    score = PROTOCOL.scores([twice])[0]
    assert (score.low, score.high) == pytest.approx(stats.t.interval(0.95, 3, means.mean(), stats.sem(means)))


def test_intervals_stay_on_the_scale_of_the_metric() -> None:
    dice = np.array([1.0, 0.98, 0.4])
    score, distance = PROTOCOL.scores([run(dice, np.array([0.0, 0.1, 90.0]))])
    assert score.low >= 0
    assert score.high == 1
    assert distance.low == 0
    assert distance.high > 90


def test_a_single_patient_has_no_interval() -> None:
    score = PROTOCOL.scores([run(np.array([0.5]))])[0]
    assert score.value == 0.5
    assert np.isnan([score.low, score.high]).all()
    assert np.isnan(PROTOCOL.compare([run(np.array([0.5]))], [run(np.array([0.4]))])[0].p)


@pytest.mark.parametrize(("value", "rank"), [(0.0, 0), (1.0, 9)])
def test_equal_values_of_all_patients_keep_an_interval_where_the_scale_has_ends(value: float, rank: int) -> None:
    """Wilson's for as many patients; a distance has no largest value, so nothing bounds it."""
    dice, distance = PROTOCOL.scores([run(np.full(9, value), np.full(9, 30.0))])
    assert (dice.low, dice.high) == pytest.approx(stats.binomtest(rank, 9).proportion_ci(method="wilson"), abs=1e-8)
    assert distance.value == 30
    assert np.isnan([distance.low, distance.high]).all()


@pytest.mark.parametrize(
    "dice", [pytest.param(np.zeros(9), id="nothing"), pytest.param(np.arange(9) % 2 / 2, id="what no patient has")]
)
def test_arms_of_equal_values_are_not_shown_to_be_equal(dice: np.ndarray) -> None:
    """Such as two that find nothing; a class that half of the patients lack has a coefficient of 1 in these."""
    same = run(dice, np.full(9, 30.0))
    found, distance = PROTOCOL.compare([same], [same])
    assert (found.difference, found.p) == (0, 1)
    critical = stats.t.ppf(0.975, 8)
    assert (found.low, found.high) == pytest.approx(
        (-(critical**2) / (9 + critical**2), critical**2 / (9 + critical**2))
    )
    assert np.isnan([distance.low, distance.high]).all()


def test_an_arm_that_finds_all_is_better_than_one_that_finds_nothing() -> None:
    gained, closer = PROTOCOL.compare([run(np.ones(9), np.zeros(9))], [run(np.zeros(9), np.full(9, 30.0))])
    assert gained.low == pytest.approx(1 - 2 * 5.317 / 14.317, abs=1e-3)
    assert gained.high == 1
    assert 0.001 < gained.p < 0.05
    assert closer.difference == -30
    assert np.isnan(closer.p)
    few = PROTOCOL.compare([run(np.ones(2))], [run(np.zeros(2))])[0]
    assert few.low < -0.9
    assert few.p > 0.05


def test_equal_values_of_all_patients_do_not_hide_that_seeds_vary() -> None:
    lucky = [run(np.full(9, value), seed=number) for number, value in enumerate((0.0, 0.0, 1.0))]
    found = PROTOCOL.compare(lucky, [run(np.zeros(9), seed=number) for number in range(3)])[0]
    assert found.difference == pytest.approx(1 / 3)
    assert found.low < 0
    assert found.p > 0.05
    assert "variance over seeds that exceeds" in found.test


def test_a_comparison_of_single_runs_is_the_paired_t_test() -> None:
    one, other = values(2), values(3)
    found = PROTOCOL.compare([run(one, seed=1)], [run(other, seed=1)])[0]
    expected = stats.ttest_rel(one, other)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.difference == pytest.approx((one - other).mean())
    assert found.test == "paired t over patients"


def test_seeds_that_vary_make_a_comparison_less_sure_and_repeats_count_as_one_seed() -> None:
    rng, reference = np.random.default_rng(4), values(5)
    arm = [run(reference + 0.1 + shift + rng.normal(0, 0.01, 12), seed=n) for n, shift in enumerate((-0.1, 0, 0.1))]
    steady = [run(reference + 0.1 + rng.normal(0, 0.01, 12), seed=n) for n in range(3)]
    base = [run(reference, seed=n) for n in range(3)]
    unsure, sure = PROTOCOL.compare(arm, base)[0], PROTOCOL.compare(steady, base)[0]
    assert sure.p < 1e-6 < 0.05 < unsure.p
    assert "variance over seeds that exceeds" in unsure.test
    doubled = [twin for one in steady for twin in (one, one)]
    assert PROTOCOL.compare(doubled, base)[0].p == pytest.approx(sure.p)


def test_p_is_below_five_percent_in_five_percent_of_equal_arms() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(600):
        patients = rng.normal(0.6, 0.1, 8)
        one, other = ([run(patients + rng.normal(0, 0.05, 8), seed=n) for n in range(2)] for _ in range(2))
        found.append(PROTOCOL.compare(one, other)[0].p)
    assert 0.01 < (np.array(found) < 0.05).mean() < 0.08


def test_other_volumes_are_refused() -> None:
    with pytest.raises(DataError, match="same test volumes"):
        PROTOCOL.compare([run(values(7))], [run(values(7, 11))])
