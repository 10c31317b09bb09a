from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ctkit.contracts import Floats, Predictions
from ctkit.errors import DataError
from ctkit_tasks import classification
from ctkit_tasks.linear import Linear
from ctkit_tasks.metrics import Outcome, Weights, auc, outcome_of, ranking
from ctkit_tasks.splitting import units_of
from ctkit_tasks.statistics import bootstrap, degrees_of_freedom


def predictions(seed: int, strength: float = 1.0, n: int = 60, classes: int = 2) -> Predictions:
    """Predictions that are right more often the stronger they are; the labels do not depend on the seed."""
    labels = np.arange(n) % classes
    logits = np.random.default_rng(seed).normal(size=(n, classes)) + strength * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple(f"image-{number:04d}" for number in range(n))
    return Predictions(names, labels, probabilities, tuple("abcdefghijk"[:classes]))


def shuffled(run: Predictions, seed: int = 0) -> Predictions:
    order = np.random.default_rng(seed).permutation(len(run.names))
    return replace(
        run,
        names=tuple(run.names[number] for number in order),
        labels=run.labels[order],
        probabilities=run.probabilities[order],
        patients=None if run.patients is None else tuple(run.patients[number] for number in order),
    )


def with_patients(run: Predictions, images_each: int) -> Predictions:
    return replace(run, patients=tuple(f"patient-{number // images_each}" for number in range(len(run.names))))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_order_of_test_images_does_not_matter(classes: int) -> None:
    one, other = with_patients(predictions(0, classes=classes), 2), with_patients(predictions(1, classes=classes), 2)
    assert Linear().scores([shuffled(one), shuffled(other, 1)]) == Linear().scores([one, other])
    assert Linear().compare([shuffled(one)], [shuffled(other, 1)]) == Linear().compare([one], [other])


def test_pooled_scores_are_the_mean_over_runs_with_an_interval_around_it() -> None:
    runs = [predictions(seed) for seed in range(4)]
    pooled = {score.metric: score for score in Linear().scores(runs)}
    single = [{score.metric: score for score in Linear().scores([run])} for run in runs]
    for name, score in pooled.items():
        assert score.value == pytest.approx(np.mean([scores[name].value for scores in single]))
        assert score.low <= score.value <= score.high
    widths = [scores["auc"].high - scores["auc"].low for scores in single]
    assert pooled["auc"].high - pooled["auc"].low < np.mean(widths)


def test_names_of_the_metrics_are_those_of_the_documentation() -> None:
    both = ["auc", "accuracy", "balanced_accuracy", "f1_macro", "average_precision", "brier", "ece"]
    assert [score.metric for score in Linear().scores([predictions(0)])] == [
        *both,
        "f1",
        "sensitivity_at_90_specificity",
    ]
    assert [score.metric for score in Linear().scores([predictions(0, classes=3)])] == both


def test_two_classes_are_compared_by_delong_and_by_paired_bootstrap() -> None:
    found = {difference.metric: difference for difference in Linear().compare([predictions(0, 3.0)], [predictions(1)])}
    assert found["auc"].test == "DeLong"
    assert {difference.test for name, difference in found.items() if name != "auc"} == {"paired bootstrap"}
    assert found["auc"].difference > 0
    assert found["auc"].p < 0.01
    assert found["accuracy"].p < 0.05
    assert found["brier"].difference < 0


@pytest.mark.parametrize(
    ("change", "classes"), [("patients", 2), ("more classes", 4)], ids=["patients with two images", "four classes"]
)
def test_auc_is_compared_by_bootstrap_where_delong_does_not_apply(change: str, classes: int) -> None:
    arm, reference = predictions(0, 3.0, classes=classes), predictions(1, classes=classes)
    if change == "patients":
        arm, reference = with_patients(arm, 2), with_patients(reference, 2)
    auc = Linear().compare([arm], [reference])[0]
    assert (auc.metric, auc.test) == ("auc", "paired bootstrap")
    assert auc.p < 0.05


@pytest.mark.parametrize(("classes", "images_each"), [(2, 1), (6, 1), (6, 12), (2, 4)])
def test_away_from_the_ends_intervals_are_as_wide_as_the_bootstraps(classes: int, images_each: int) -> None:
    """What is added for scores next to 1 is lost in the middle, for several classes and for patients of many images."""
    run = with_patients(predictions(0, 1.3, n=240, classes=classes), images_each)
    outcome = outcome_of(run)
    resampled = bootstrap([outcome], units_of(run.names, run.labels, run.patients))
    for score in Linear().scores([run]):
        low, high = np.quantile(resampled[score.metric], (0.025, 0.975))
        if score.metric != "ece":
            assert 0.85 < (score.high - score.low) / (high - low) < 1.3, score.metric


def test_bootstrap_and_delong_agree() -> None:
    arm, reference = predictions(0, 1.6, n=300), predictions(1, n=300)
    by_delong = Linear().compare([arm], [reference])[0]
    every_patient_one_image = Linear().compare([with_patients(arm, 1)], [with_patients(reference, 1)])[0]
    assert by_delong == every_patient_one_image
    by_bootstrap = Linear().compare([with_patients(arm, 2)], [with_patients(reference, 2)])[0]
    assert (by_bootstrap.low, by_bootstrap.high) == pytest.approx((by_delong.low, by_delong.high), abs=0.02)


def test_equal_runs_do_not_differ() -> None:
    runs = [predictions(0), predictions(1)]
    for difference in Linear().compare(runs, runs[::-1]):
        assert (difference.difference, difference.p) == (pytest.approx(0, abs=1e-12), pytest.approx(1))


@pytest.mark.parametrize(
    "images_each", [pytest.param(1, id="DeLong"), pytest.param(2, id="paired bootstrap, images of a patient together")]
)
def test_luck_of_seeds_is_not_called_a_difference(images_each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both arms have seeds from one distribution. Without the variance over seeds a third of the trials showed one."""
    monkeypatch.setattr(classification, "bootstrap", partial(bootstrap, resamples=100))
    shown = 0
    for trial in range(100):
        runs = [with_patients(seed_of_an_arm(trial, seed), images_each) for seed in range(6)]
        shown += Linear().compare(runs[:3], runs[3:])[0].p < 0.05
    assert shown <= 8


def seed_of_an_arm(trial: int, seed: int, n: int = 204) -> Predictions:
    """Scores of normal images, difficult alike for all seeds, by a backbone that is better or worse by chance."""
    labels = np.arange(n) % 2
    image = np.random.default_rng([trial, 0]).normal(size=n)
    rng = np.random.default_rng([trial, 1 + seed])
    score = (1.0 + rng.normal(0, 0.1)) * labels + 0.95 * image + 0.3 * rng.normal(size=n)
    positive = 1 / (1 + np.exp(0.5 - score))
    return Predictions(
        tuple(f"image-{number:04d}" for number in range(n)),
        labels,
        np.stack([1 - positive, positive], axis=1),
        ("a", "b"),
    )


def test_a_difference_larger_than_that_between_seeds_is_shown() -> None:
    arm, reference = (
        [predictions(seed, 3.0, n=300) for seed in range(3)],
        [predictions(3 + seed, n=300) for seed in range(3)],
    )
    for difference in Linear().compare(arm, reference)[:3]:
        assert difference.p < 0.001
        assert difference.low > 0
        assert difference.test.endswith("with variance over seeds")


def test_one_seed_on_a_side_leaves_the_seeds_of_the_other_to_judge_by() -> None:
    arm, reference = [predictions(seed, 2.0) for seed in range(3)], [predictions(3)]
    auc = Linear().compare(arm, reference)[0]
    assert auc.test == "DeLong, with variance over seeds"
    fixed = [Linear().compare([run], reference)[0].difference for run in arm]
    assert auc.high - auc.low > 2 * stats.t.ppf(0.975, 2) * stats.sem(fixed)


def test_repeats_of_one_seed_are_no_seeds() -> None:
    repeats = [replace(predictions(number), seed=42) for number in range(4)]
    assert {difference.test for difference in Linear().compare(repeats[:2], repeats[2:])} == {
        "DeLong",
        "paired bootstrap",
    }
    twice = [replace(predictions(number), seed=number // 2) for number in range(4)]
    once = Linear().compare(twice, [predictions(5)])[0]
    assert once.test == "DeLong, with variance over seeds"
    apart = [replace(run, seed=number) for number, run in enumerate(twice)]
    assert once.p != Linear().compare(apart, [predictions(5)])[0].p


def test_p_values_of_the_bootstrap_can_be_as_small_as_a_long_table_asks_for() -> None:
    arm, reference = predictions(0, 4.0, n=400), predictions(1, 0.5, n=400)
    for difference in Linear().compare([arm], [reference]):
        assert difference.p < 1e-6 or difference.metric == "ece"


def test_seeds_of_both_sides_are_averaged() -> None:
    arm, reference = [predictions(0), predictions(1), predictions(2)], [predictions(3)]
    values = {score.metric: score.value for score in Linear().scores(arm)}
    reference_values = {score.metric: score.value for score in Linear().scores(reference)}
    for difference in Linear().compare(arm, reference):
        expected = values[difference.metric] - reference_values[difference.metric]
        assert difference.difference == pytest.approx(expected)


def test_runs_on_other_test_images_are_refused() -> None:
    with pytest.raises(DataError, match="same test images"):
        Linear().compare([predictions(0)], [predictions(0, n=58)])


def test_a_class_missing_from_the_test_images_is_no_crash() -> None:
    run = replace(predictions(0), labels=np.zeros(60, np.int64))
    scores = {score.metric: score for score in Linear().scores([run])}
    assert math.isnan(scores["auc"].value)
    assert math.isnan(scores["auc"].low)
    assert 0 <= scores["accuracy"].value <= 1
    assert math.isnan(Linear().compare([run], [run])[0].p)


def test_one_test_image_has_scores_without_intervals() -> None:
    run = Predictions(("a",), np.array([1]), np.array([[0.3, 0.7]]), ("x", "y"))
    for score in Linear().scores([run]):
        assert math.isnan(score.low)


def test_shuffled_labels_are_worth_a_coin_and_intervals_say_so() -> None:
    run = predictions(0, 3.0, n=400)
    labels = np.random.default_rng(2).permutation(run.labels)
    auc = Linear().scores([replace(run, labels=labels)])[0]
    assert auc.low < 0.5 < auc.high
    assert auc.value == pytest.approx(0.5, abs=0.06)


def crossed(trial: int, seeds: int, over_seeds: float, gain: float, common: float = 0.5) -> list[list[Predictions]]:
    """Two arms of 203 test images: scores are sums of normal parts of image, arm, seed, and of their products.

    ``over_seeds`` is the deviation of a seed's skill, ``gain`` how much more skill the first arm has, ``common`` the
    share of the variance that an image has with all runs; of the rest seven parts are an arm's and three a seed's.
    """
    shares = np.sqrt([common, 0.7 * (1 - common), 0.3 * (1 - common)])
    labels = (np.arange(203) < 98).astype(np.int64)
    names = tuple(f"{number:03d}" for number in range(203))
    rng = np.random.default_rng([trial, seeds])
    image = rng.normal(size=203)
    arms = []
    for more in (gain, 0.0):
        of_arm, runs = rng.normal(size=203), []
        for seed in range(seeds):
            skill = SKILL + more + rng.normal(0, over_seeds)
            score = skill * labels + shares @ np.stack([image, of_arm, rng.normal(size=203)])
            positive = stats.norm.cdf(score - SKILL / 2)
            probabilities = np.stack([1 - positive, positive], axis=1)
            runs.append(Predictions(names, labels, probabilities, ("a", "b"), "b", seed=seed))
        arms.append(runs)
    return arms


SKILL = math.sqrt(2) * stats.norm.ppf(0.78)
STEP = stats.norm.pdf(SKILL / math.sqrt(2)) / math.sqrt(2)  # AUC for each unit of skill
GAIN = 0.07 / STEP
PAIRED = 0.77  # common share by which one seed on each side has a power of 0.82 for that gain


def rejections(monkeypatch: pytest.MonkeyPatch, trials: int, *design: float) -> tuple[float, float]:
    """Share of trials whose AUCs differ at p below 0.05, and the mean variance of the difference over images."""
    monkeypatch.setattr(classification, "bootstrap", lambda outcomes, units: {})
    monkeypatch.setattr(classification, "measure", only_auc)
    variances = []

    def noted(images: float, *others: Any) -> tuple[float, bool]:
        variances.append(images)
        return degrees_of_freedom(images, *others)

    monkeypatch.setattr(classification, "degrees_of_freedom", noted)
    seeds, *parts = design
    shown = sum(Linear().compare(*crossed(n, int(seeds), *parts))[0].p < 0.05 for n in range(trials))
    return shown / trials, float(np.mean(variances))


def only_auc(outcome: Outcome, weights: Weights) -> dict[str, Floats]:
    return {"auc": auc(ranking(outcome, 1, weights))}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 10])
def test_seeds_of_equal_arms_are_called_different_in_five_of_a_hundred_trials(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a variance of the difference over seeds of nothing, of half and of all of that over images.

    With one seed nobody sees the luck of seeds, so there it is nothing.
    """
    trials = 3000 if seeds < 10 else 2000
    shown, over_images = rejections(monkeypatch, trials, seeds, 0.0, 0.0)
    print(f"\n{seeds} seeds: {shown:.3f} at no variance over seeds", end="")  # noqa: T201  # for -s
    assert shown <= 0.06
    for share in (0.5, 1.0) if seeds > 1 else ():
        over_seeds = math.sqrt(share * over_images * seeds / 2) / STEP
        shown, _ = rejections(monkeypatch, trials, seeds, over_seeds, 0.0)
        print(f", {shown:.3f} at {share} of that over images", end="")  # noqa: T201  # for -s
        assert shown <= 0.06


@pytest.mark.slow
def test_a_second_seed_does_not_take_the_power(monkeypatch: pytest.MonkeyPatch) -> None:
    power = {seeds: rejections(monkeypatch, 1000, seeds, 0.0, GAIN, PAIRED)[0] for seeds in (1, 2, 3, 5)}
    print(f"\npower by seeds for a gain of 0.07: {power}", end="")  # noqa: T201  # for -s
    assert power[1] > 0.8
    assert power[2] > power[1] - 0.05
    assert power[5] >= power[3] >= power[2] - 0.02
    over_images = rejections(monkeypatch, 50, 1, 0.0, GAIN, PAIRED)[1]
    quarter = math.sqrt(over_images / 8) / STEP  # of a seed on each side, together a quarter of the images' variance
    varied = {seeds: rejections(monkeypatch, 1000, seeds, quarter, GAIN, PAIRED)[0] for seeds in (2, 3, 5)}
    print(f"; where a seed varies by a quarter of the images: {varied}", end="")  # noqa: T201  # for -s
    assert varied[2] > 0.6
