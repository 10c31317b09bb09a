from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ctkit.contracts import Predictions
from ctkit_tasks import classification, statistics
from ctkit_tasks.linear import Linear
from ctkit_tasks.metrics import Outcome, calibration_error, outcome_of
from ctkit_tasks.splitting import units_of
from ctkit_tasks.statistics import (
    SeedPart,
    against_zero,
    bootstrap,
    calibration_excess,
    degrees_of_freedom,
    delong,
    interval,
    resampling_counts,
    seed_part,
    seed_variance,
    variance_of,
)

# DeLong, DeLong & Clarke-Pearson 1988: albumin and total protein (tenths), K-G score and outcome of 43 patients with
# ovarian cancer, as the SAS manual prints them in the example of PROC LOGISTIC that compares ROC curves.
OVARIAN = np.array(
    [
        [30, 58, 10, 0], [32, 63, 5, 1], [39, 68, 3, 1], [28, 48, 6, 0], [32, 58, 3, 1], [9, 40, 5, 0], [25, 57, 8, 0],
        [16, 56, 5, 1], [38, 57, 5, 1], [37, 67, 6, 1], [32, 54, 4, 1], [38, 66, 6, 1], [41, 66, 5, 1], [36, 57, 5, 1],
        [43, 70, 4, 1], [36, 67, 4, 0], [23, 44, 6, 1], [42, 76, 4, 0], [40, 66, 6, 0], [35, 58, 6, 1], [38, 68, 7, 1],
        [30, 47, 8, 0], [45, 74, 5, 1], [37, 74, 5, 1], [31, 66, 6, 1], [41, 82, 6, 1], [43, 70, 5, 1], [43, 65, 4, 1],
        [32, 51, 5, 1], [26, 47, 6, 1], [33, 68, 6, 0], [17, 40, 7, 0], [37, 61, 5, 1], [33, 63, 7, 1], [42, 77, 6, 1],
        [35, 62, 5, 1], [29, 57, 9, 0], [21, 48, 7, 1], [28, 62, 8, 0], [40, 70, 7, 1], [33, 57, 6, 1], [37, 69, 5, 1],
        [36, 66, 5, 1],
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("test", "difference", "error", "p"),
    [
        pytest.param(0, 0.0108, 0.0953, 0.9102, id="albumin"),
        pytest.param(1, -0.0780, 0.1046, 0.4561, id="total protein"),
    ],
)
def test_delong_equals_the_published_ovarian_cancer_example(
    test: int, difference: float, error: float, p: float
) -> None:
    scores = np.stack([OVARIAN[:, test], -OVARIAN[:, 2]]).astype(float)
    value, variance = delong(OVARIAN[:, 3] == 1, scores, np.array([1.0, -1.0]))
    assert value == pytest.approx(difference, abs=5e-5)
    assert math.sqrt(variance) == pytest.approx(error, abs=5e-5)
    assert against_zero(value, variance, 0).p == pytest.approx(p, abs=5e-5)


@settings(max_examples=20, deadline=None)
@given(cases=st.integers(2, 12), controls=st.integers(2, 12), seed=st.integers(0, 1000))
def test_delong_equals_the_definition_over_all_pairs(cases: int, controls: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (3, cases + controls)).astype(float)  # many ties
    positive = np.arange(cases + controls) < cases
    contrast = np.array([0.5, 0.5, -1.0])
    pairs = np.array(
        [
            [[(x > y) + (x == y) / 2 for y in row[~positive]] for x in row[positive]]
            for row in scores
        ]
    )  # fmt: skip
    value = contrast @ pairs.mean(axis=(1, 2))
    covariance = np.cov(pairs.mean(axis=2)) / cases + np.cov(pairs.mean(axis=1)) / controls
    assert delong(positive, scores, contrast) == pytest.approx((value, contrast @ covariance @ contrast), abs=1e-12)


def test_delong_without_variance_gives_no_p_value() -> None:
    positive = np.array([True, True, False, False])
    perfect, useless = [4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]
    difference = np.array([1.0, -1.0])
    assert math.isnan(against_zero(*delong(positive, np.array([perfect, useless]), difference), 0).p)
    assert against_zero(*delong(positive, np.array([perfect, perfect]), difference), 0).p == 1
    assert math.isnan(against_zero(*delong(np.array([True, False]), np.array([[1.0, 0.0]]), np.array([1.0])), 0).p)
    assert math.isnan(delong(np.array([True]), np.array([[1.0]]), np.array([1.0]))[0])


def test_resamples_keep_the_size_of_every_class_and_draw_patients_whole() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    patients = list("aabccddb")
    units = units_of([str(i) for i in range(8)], labels, patients)
    counts = np.concatenate(list(resampling_counts(units, 200, np.random.default_rng(0))), axis=1)
    for one, other in itertools.combinations(range(8), 2):
        if patients[one] == patients[other]:
            assert np.array_equal(counts[one], counts[other])
    assert np.array_equal(counts[[0, 2]].sum(axis=0), np.full(200, 2))  # patients a and b
    assert np.array_equal(counts[[3, 5]].sum(axis=0), np.full(200, 2))  # patients c and d


def test_bootstrap_is_deterministic_and_shared_by_the_runs() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    outcome = Outcome(labels, rng.dirichlet([1, 1], 60), 1)
    units = units_of([str(i) for i in range(60)], labels, None)
    first, second = bootstrap([outcome, outcome], units), bootstrap([outcome], units)
    for name, values in first.items():
        assert np.array_equal(values[:, 0], values[:, 1])
        assert np.array_equal(values[:, :1], second[name])


def test_bootstrap_equals_resampling_by_hand() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [25, 15])
    outcome = Outcome(labels, rng.dirichlet([1, 1], 40), 1)
    units = units_of([f"{i:02d}" for i in range(40)], labels, None)
    by_hand = []
    for _ in range(2000):
        chosen = np.concatenate([rng.choice(25, 25), 25 + rng.choice(15, 15)])
        by_hand.append((outcome.predicted[chosen] == labels[chosen]).mean())
    found = bootstrap([outcome], units)["accuracy"][:, 0]
    assert interval(found) == pytest.approx(np.quantile(by_hand, (0.025, 0.975)), abs=0.03)
    assert found.std() == pytest.approx(np.std(by_hand), rel=0.1)


def test_nothing_to_resample_gives_no_interval() -> None:
    outcome = Outcome(np.array([1]), np.array([[0.1, 0.9]]), 1)
    resampled = bootstrap([outcome], units_of(["a"], outcome.labels, None))
    assert all(np.isnan(interval(values[:, 0])).all() for values in resampled.values())
    assert math.isnan(against_zero(1.0, variance_of(resampled["accuracy"][:, 0]), 0).p)


@pytest.mark.parametrize("freedom", [0, 1, 4, 40])
def test_a_value_is_tested_against_zero_by_normal_or_students_distribution(freedom: int) -> None:
    distribution = stats.t(freedom) if freedom else stats.norm()
    for value, error in ((0.03, 0.01), (-0.2, 0.01), (0.0, 2.0)):
        found = against_zero(value, error**2, freedom)
        assert found.p == pytest.approx(2 * distribution.sf(abs(value) / error))
        assert (found.low, found.high) == pytest.approx(tuple(value + error * distribution.ppf([0.025, 0.975])))


def test_the_variance_of_resampled_values_leaves_out_those_that_are_not_defined() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert variance_of(np.r_[values, np.nan]) == pytest.approx(stats.sem(values) ** 2 * 50)


def test_the_variance_over_seeds_is_that_of_their_mean() -> None:
    values = np.array([0.7, 0.8, 0.84])
    assert seed_variance(values) == pytest.approx(stats.sem(values) ** 2)
    assert seed_variance(values[:1]) == 0


def test_seeds_and_images_that_are_crossed_add_up_as_in_an_analysis_of_variance() -> None:
    """Of a mean over ``k`` seeds and ``n`` images: MS images + MS seeds - MS interaction, over n k."""
    rng = np.random.default_rng(4)
    k, n = 4, 30
    table = rng.normal(size=n) + 0.4 * rng.normal(size=(k, 1)) + 0.5 * rng.normal(size=(k, n))
    of_seeds, of_images = table.mean(axis=1), table.mean(axis=0)
    rest = table - of_seeds[:, None] - of_images + table.mean()
    squares = n * of_seeds.var(ddof=1), k * of_images.var(ddof=1), (rest**2).sum() / ((k - 1) * (n - 1))
    over_images = of_images.var(ddof=1) / n
    interaction = (table - of_images).var(axis=1, ddof=1).sum() / n
    part = seed_part(of_seeds, interaction)
    assert part.alone > 0
    assert over_images + part.alone == pytest.approx((squares[0] + squares[1] - squares[2]) / (n * k))


def test_without_a_variance_over_images_the_test_is_welchs() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(0.1, 0.02, 4), rng.normal(0.1, 0.05, 3)
    sides = [seed_part(one, 0.0), seed_part(other, 0.0)]
    freedom, seeds_lead = degrees_of_freedom(0.0, 200, sides)
    expected = stats.ttest_ind(one, other, equal_var=False)
    assert seeds_lead
    assert freedom == pytest.approx(expected.df)
    found = against_zero(one.mean() - other.mean(), sum(side.alone for side in sides), freedom)
    assert found.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("alone", "least", "most"),
    [
        pytest.param(0.0, 200, 200, id="seeds do not vary"),
        pytest.param(0.1, 100, 200, id="seeds vary little"),
        pytest.param(0.9, 2, 10, id="nearly as much as images"),
        pytest.param(1.1, 2, 2, id="more than images: those of the seeds"),
    ],
)
def test_few_seeds_cost_degrees_of_freedom_as_far_as_they_vary(alone: float, least: float, most: float) -> None:
    freedom, seeds_lead = degrees_of_freedom(1.0, 200, [SeedPart(alone / 2, alone / 2, 1)] * 2)
    assert least <= freedom <= most
    assert seeds_lead is (alone > 1)
    assert degrees_of_freedom(1.0, 200, [SeedPart(0.0, 0.0, 0)] * 2) == (0, False)  # one seed: the normal distribution
    assert degrees_of_freedom(0.02, 2, [SeedPart(1.0, 0.01, 1)] * 2) == (1, False)  # else intervals of any width


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auc", "accuracy", "brier"])
def test_intervals_cover_the_truth_in_about_95_of_100_samples(metric: str) -> None:
    """Two normal scores one deviation apart; the truth is that of a sample of 400,000."""
    truth = np.asarray(bootstrap_free(metric, sample(np.random.default_rng(0), 200_000)))
    covered = 0
    for seed in range(600):
        outcome = sample(np.random.default_rng([1, seed]), 60)
        units = units_of([str(i) for i in range(120)], outcome.labels, None)
        low, high = interval(bootstrap([outcome], units, 500)[metric][:, 0])
        covered += low <= truth <= high
    assert 0.92 <= covered / 600 <= 0.985  # accuracy moves in steps, which makes its interval wider


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [1.0, 1.2, 1.5, 3.0])
@pytest.mark.parametrize("images", [20, 40, 100, 200, 600])
def test_intervals_of_ece_cover_the_truth(images: int, confidence: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that is calibrated, or whose logits are too large by a factor; the truth is that of 1,000,000."""
    for module in (classification, statistics):  # alone, which takes a tenth of the time
        monkeypatch.setattr(module, "measure", lambda outcome, weights: {"ece": calibration_error(outcome, weights)})
    large = by_chance(np.random.default_rng(0), 1_000_000, confidence)
    truth = float(calibration_error(outcome_of(large), np.ones((1_000_000, 1)))[0])
    runs = [by_chance(np.random.default_rng([seed, images]), images, confidence) for seed in range(400)]
    found = [Linear().scores([run])[0] for run in runs]
    mean, width = (np.mean(values) for values in ([s.value for s in found], [s.high - s.low for s in found]))
    covered = np.mean([score.low <= truth <= score.high for score in found])
    print(f"\n{images} images, true ECE {truth:.3f}: mean {mean:.3f}, width {width:.3f}, coverage {covered:.3f}")  # noqa: T201  # for -s
    assert covered > (0.88 if images == 20 else 0.93)


def test_the_interval_of_a_perfectly_calibrated_model_reaches_down_to_no_error() -> None:
    """Its ECE is above 0 by chance. For one that is too sure the interval leaves 0 out."""
    calibrated, sure = (by_chance(np.random.default_rng(1), 300, confidence) for confidence in (1.0, 4.0))
    ece = [next(score for score in Linear().scores([run]) if score.metric == "ece") for run in (calibrated, sure)]
    assert (ece[0].low, ece[0].value > 0.02) == (0, True)
    assert 0.02 < ece[1].low < ece[1].value < ece[1].high


def test_the_excess_of_an_ece_is_what_all_bins_together_move() -> None:
    runs = [outcome_of(by_chance(np.random.default_rng(seed), 60, 1.0)) for seed in range(2)]
    labels = runs[0].labels
    runs = [Outcome(labels, run.probabilities, 1) for run in runs]
    units = units_of([f"{number:02d}" for number in range(60)], labels, None)
    moved = []
    for counts in np.concatenate(list(resampling_counts(units, 2000, np.random.default_rng(0))), axis=1).T:
        taken = np.repeat(np.arange(60), counts.astype(int))
        apart = [by_hand(Outcome(labels[taken], run.probabilities[taken], 1)) - by_hand(run) for run in runs]
        moved.append(np.abs(apart).sum() / 2)
    assert calibration_excess(runs, units, np.array([0.5, 0.5])) == pytest.approx(np.quantile(moved, 0.975), rel=1e-4)


def by_hand(outcome: Outcome) -> np.ndarray:
    """Accuracy less confidence in each of 15 bins, times its share of the images."""
    confidence, right = outcome.probabilities.max(axis=1), outcome.predicted == outcome.labels
    inside = [(confidence >= bin / 15) & (confidence < (bin + 1) / 15) for bin in range(15)]
    return np.array([(right[here] - confidence[here]).sum() / len(right) for here in inside])


def by_chance(rng: np.random.Generator, images: int, confidence: float) -> Predictions:
    """Labels drawn by the true probabilities, and predictions whose logits are the true ones times ``confidence``."""
    logits = rng.normal(0, 1.5, images)
    labels = (rng.random(images) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    positive = 1 / (1 + np.exp(-confidence * logits))
    names = tuple(f"{number:07d}" for number in range(images))
    return Predictions(names, labels, np.stack([1 - positive, positive], axis=1), ("a", "b"), "b")


def sample(rng: np.random.Generator, per_class: int) -> Outcome:
    labels = np.repeat([0, 1], per_class)
    positive = 1 / (1 + np.exp(-(rng.normal(size=2 * per_class) + labels - 0.5)))
    return Outcome(labels, np.stack([1 - positive, positive], axis=1), 1)


def bootstrap_free(metric: str, outcome: Outcome) -> float:
    from sklearn import metrics

    score = outcome.probabilities[:, 1]
    if metric == "auc":
        return float(metrics.roc_auc_score(outcome.labels, score))
    if metric == "accuracy":
        return float(metrics.accuracy_score(outcome.labels, score > 0.5))
    return float(metrics.brier_score_loss(outcome.labels, score))
