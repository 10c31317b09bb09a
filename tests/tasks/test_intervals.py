"""Score intervals against their published definitions, at the ends of the scale, and by how often they are right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ctkit.contracts import Predictions
from ctkit_tasks.intervals import NORMAL, Estimate, auc_ends, difference, share_ends
from ctkit_tasks.linear import Linear
from ctkit_tasks.statistics import against_zero, delong


def predictions(scores: np.ndarray, labels: np.ndarray) -> Predictions:
    """Of two classes, from the positive one's scores (n,) in 0..1."""
    names = tuple(f"{number:04d}" for number in range(len(labels)))
    return Predictions(names, labels, np.stack([1 - scores, scores], axis=1), ("well", "ill"), "ill")


def perfect(per_class: int) -> Predictions:
    labels = np.repeat([0, 1], per_class)
    return predictions(np.where(labels, 1.0, 0.0), labels)


@pytest.mark.parametrize(("right", "images"), [(40, 40), (57, 60), (0, 8), (31, 60)])
def test_accuracy_has_wilsons_interval(right: int, images: int) -> None:
    labels = np.arange(images) % 2
    found = predictions(np.where(np.arange(images) < right, labels, 1 - labels).astype(float), labels)
    accuracy = Linear().scores([found])[1]
    reference = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert (accuracy.low, accuracy.high) == pytest.approx((reference.low, reference.high), abs=1e-8)


@pytest.mark.parametrize(("value", "cases", "controls"), [(1.0, 20, 20), (0.983, 20, 20), (0.7, 5, 50), (0.2, 30, 9)])
def test_the_interval_of_an_auc_is_newcombes_where_the_variance_is_hanleys(
    value: float, cases: int, controls: int
) -> None:
    """The true values that a grid finds within 1.96 deviations, by Hanley & McNeil's formula as they printed it."""
    ends = auc_ends([(cases, controls)])
    true = np.linspace(0, 1, 1_000_001)
    q1, q2, half = true / (2 - true), 2 * true**2 / (1 + true), (cases + controls) / 2 - 1
    variance = (true * (1 - true) + half * (q1 - true**2) + half * (q2 - true**2)) / (cases * controls)
    inside = true[np.abs(true - value) <= NORMAL * np.sqrt(np.maximum(variance, 0)) + 1e-12]
    found = Estimate(value, ends.variance(value), ends).limits(NORMAL)
    assert found == pytest.approx((inside.min(), inside.max()), abs=2e-6)


def test_a_perfect_score_has_an_interval_and_so_has_a_difference_of_two() -> None:
    for score in Linear().scores([perfect(20)]):
        assert score.high - score.low > 0.05, score
    for found in Linear().compare([perfect(20)], [perfect(20)]):
        assert (found.difference, found.p) == (0, 1)
        assert found.low == pytest.approx(-found.high)
        assert found.high > 0.05, found


def test_what_a_perfect_arm_gains_over_a_useless_one_is_tested() -> None:
    """Neither AUC varies over resamples, and yet all 40 images speak for a difference."""
    useless = replace(perfect(20), probabilities=np.full((40, 2), 0.5))
    auc = Linear().compare([perfect(20)], [useless])[0]
    assert auc.difference == 0.5
    assert 0.2 < auc.low < auc.high < 0.8
    assert auc.p < 1e-3


def test_no_limit_of_a_score_is_outside_its_scale() -> None:
    for value in (0.0, 1e-12, 0.4, 1 - 1e-12, 1.0):
        for variance in (0.0, 1e-6, 0.1):
            for critical in (1e-9, 1.96, 12.7):
                low, high = Estimate(value, variance, share_ends(12)).limits(critical)
                assert 0 <= low <= value <= high <= 1
    assert all(map(math.isnan, Estimate(0.5, math.nan, share_ends(12)).limits(1.96)))


def test_away_from_the_ends_a_difference_has_delongs_interval() -> None:
    """And its p value everywhere, which leaves zero out of the interval where it is below 0.05."""
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 2
    image = rng.normal(size=600)
    arm, reference = (
        predictions(stats.norm.cdf(image + rng.normal(size=600) + gain * labels), labels) for gain in (1.3, 1.1)
    )
    found = Linear().compare([arm], [reference])[0]
    scores = np.stack([arm.probabilities[:, 1], reference.probabilities[:, 1]])
    expected = against_zero(*delong(labels == 1, scores, np.array([1.0, -1.0])), 0)
    assert found.p == pytest.approx(expected.p)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02 * (found.high - found.low))


def test_a_difference_without_ends_is_the_usual_interval() -> None:
    found = difference(Estimate(0.3, 0.004), Estimate(0.2, 0.003), 0.002, 0.001, 7.5)
    expected = against_zero(0.3 - 0.2, 0.003, 7.5)
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, expected.p))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "controls", "truth"),
    [(20, 20, 0.983), (20, 20, 0.95), (20, 20, 0.8), (10, 30, 0.95), (5, 50, 0.95), (98, 105, 0.983), (98, 105, 0.85)],
)
def test_intervals_of_auc_cover_the_truth(cases: int, controls: int, truth: float) -> None:
    covered = zero = 0
    for seed in range(2000):
        scores, positive = paired(np.random.default_rng([seed, 1]), cases, controls, (truth, truth))
        value, variance = delong(positive, scores[:1], np.ones(1))
        low, high = Estimate(value, max(variance, 0.0), auc_ends([(cases, controls)])).limits(NORMAL)
        covered += low <= truth <= high
        zero += high - low < 1e-6
    print(f"\n{cases} + {controls} images, AUC {truth}: coverage {covered / 2000:.3f}, {zero} of width zero")  # noqa: T201  # for -s
    assert zero == 0
    assert 0.935 <= covered / 2000 <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "controls", "truths"),
    [
        (20, 20, (0.983, 0.983)),
        (20, 20, (0.983, 0.93)),
        (20, 20, (0.8, 0.8)),
        (10, 30, (0.95, 0.95)),
        (98, 105, (0.97, 0.97)),
        (98, 105, (0.85, 0.78)),
    ],
    ids=str,
)
def test_intervals_of_differences_cover_the_truth(cases: int, controls: int, truths: tuple[float, float]) -> None:
    covered = apart = rejected = 0
    ends = auc_ends([(cases, controls)])
    for seed in range(2000):
        scores, positive = paired(np.random.default_rng([seed, 2]), cases, controls, truths)
        one, other = (Estimate(*delong(positive, scores, weights), ends) for weights in np.eye(2))
        both = delong(positive, scores, np.array([1.0, -1.0]))[1]
        found = difference(one, other, max(both, 0.0), 0.0, 0)
        covered += found.low <= truths[0] - truths[1] <= found.high
        rejected += found.p < 0.05
        apart += (found.p < 0.05) != (found.low * found.high > 0)
    words = f"coverage {covered / 2000:.3f}, p below 0.05 in {rejected / 2000:.3f}, p and interval apart in"
    print(f"\n{cases} + {controls} images, AUC {truths}: {words} {apart / 2000:.3f}")  # noqa: T201  # for -s
    assert covered / 2000 >= 0.935
    if truths[0] == truths[1]:
        assert rejected / 2000 <= 0.06


def paired(
    rng: np.random.Generator, cases: int, controls: int, truths: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores (2, n) of two backbones, of images that are half as hard for both, with these AUCs."""
    positive = np.arange(cases + controls) < cases
    noise = math.sqrt(0.5) * (rng.normal(size=len(positive)) + rng.normal(size=(2, len(positive))))
    return noise + positive * math.sqrt(2) * stats.norm.ppf(truths)[:, None], positive
