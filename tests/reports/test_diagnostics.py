from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, confusion_matrix, roc_curve

from ctkit import SelectionTable
from ctkit.contracts import Predictions
from ctkit_reports import diagnostics


def predictions(probabilities: object, labels: object, positive: str | None = None) -> Predictions:
    values = np.asarray(probabilities, np.float64)
    numbers = np.asarray(labels, np.int64)
    names = tuple(str(number) for number in range(len(numbers)))
    return Predictions(names, numbers, values, tuple("abcdefghijk"[: values.shape[1]]), positive)


def drawn(seed: int, n: int, classes: int) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    raw = rng.random((n, classes)) + np.eye(classes)[labels] * 0.4
    return predictions(raw / raw.sum(axis=1, keepdims=True), labels)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=4, max_size=60))
def test_roc_equals_that_of_scikit_learn(points: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 5 for score, _ in points])
    positive = np.array([truth for _, truth in points])
    positive[:2] = (True, False)
    false, true = diagnostics.roc(scores, positive)
    expected_false, expected_true, _ = roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false)
    np.testing.assert_allclose(true, expected_true)


@pytest.mark.parametrize("classes", [2, 3], ids=["two classes", "three classes"])
def test_area_below_the_mean_roc_is_the_mean_area(classes: int) -> None:
    runs = [drawn(seed, 300, classes) for seed in (1, 2)]
    areas = []
    for run in runs:
        for number in range(classes) if classes > 2 else [1]:
            false, true, _ = roc_curve(run.labels == number, run.probabilities[:, number])
            areas.append(auc(false, true))
    curve = diagnostics.mean_roc(runs)
    assert auc(diagnostics.FALSE_POSITIVE_RATES, curve) == pytest.approx(np.mean(areas), abs=0.01)
    assert curve[0] == 0
    assert curve[-1] == 1


def test_the_positive_class_is_the_named_one_or_the_second() -> None:
    assert diagnostics.positive_class(predictions([[0.2, 0.8]], [1])) == 1
    assert diagnostics.positive_class(predictions([[0.2, 0.8]], [1], positive="a")) == 0


def test_calibrated_probabilities_lie_on_the_diagonal() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(20_000)
    run = predictions(np.stack([1 - p, p], axis=1), rng.random(20_000) < p)
    predicted, observed = diagnostics.calibration([run])
    assert len(predicted) == 10
    np.testing.assert_allclose(predicted, observed, atol=0.04)


def test_calibration_of_many_classes_is_of_the_confidence() -> None:
    run = predictions([[0.6, 0.3, 0.1]] * 10, [0] * 4 + [1] * 6)
    predicted, observed = diagnostics.calibration([run])
    np.testing.assert_allclose(predicted, [0.6])
    np.testing.assert_allclose(observed, [0.4])


def test_confusion_sums_over_runs() -> None:
    runs = [drawn(seed, 90, 3) for seed in (4, 5)]
    expected = sum(confusion_matrix(run.labels, run.probabilities.argmax(axis=1)) for run in runs)
    np.testing.assert_array_equal(diagnostics.confusion(runs), expected)


def selection(kept: list[bool], names: tuple[str, ...] = ("v", "w")) -> SelectionTable:
    n = len(kept)
    volume = np.arange(n) * 2 // n
    nothing = np.full(n, np.nan)
    return SelectionTable(names, volume, np.arange(n) % max(n // 2, 1), np.array(kept), nothing)


def test_overlap_counts_slices_and_not_positions() -> None:
    one = selection([True, False, True, True])
    other = selection([True, False, True, True], names=("w", "v"))
    np.testing.assert_allclose(diagnostics.overlap([one, other]), [[1, 2 / 4], [2 / 4, 1]])
    assert np.isnan(diagnostics.overlap([selection([False] * 4)]))


@given(st.integers(1, 2_000))
def test_thinned_curves_keep_their_mean_and_order(n: int) -> None:
    steps, values = np.arange(n, dtype=float), np.full(n, 2.5)
    thin_steps, thin_values = diagnostics.thinned(steps, values)
    assert len(thin_steps) == min(n, 300)
    assert (np.diff(thin_steps) > 0).all()
    np.testing.assert_allclose(thin_values, 2.5)
