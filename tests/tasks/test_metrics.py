from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from ctkit.contracts import Predictions
from ctkit_tasks.metrics import Outcome, measure, outcome_of


def outcome(n: int, classes: int, seed: int, *, ties: bool = False) -> Outcome:
    """Random predictions that know a little; with ``ties`` many probabilities are equal."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(classes, size=n - classes)])
    probabilities = rng.dirichlet(np.ones(classes), n) + 0.3 * np.eye(classes)[labels]
    if ties:
        probabilities = np.ceil(probabilities * 4)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Outcome(labels, probabilities, 1 if classes == 2 else None)


def measured(of: Outcome, weights: np.ndarray | None = None) -> dict[str, float]:
    columns = np.ones((len(of.labels), 1)) if weights is None else weights[:, None]
    return {name: float(value[0]) for name, value in measure(of, columns).items()}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@settings(max_examples=10, deadline=None)
@given(n=st.integers(12, 80), seed=st.integers(0, 10_000))
def test_metrics_of_two_classes_equal_scikit_learns(n: int, seed: int, *, ties: bool, weighted: bool) -> None:
    of = outcome(n, 2, seed, ties=ties)
    weights = np.random.default_rng(seed + 1).integers(1, 4, n).astype(float) if weighted else np.ones(n)
    score, called, w = of.probabilities[:, 1], of.predicted, {"sample_weight": weights}
    assert measured(of, weights) == pytest.approx(
        {
            "auc": sk.roc_auc_score(of.labels, score, **w),
            "accuracy": sk.accuracy_score(of.labels, called, **w),
            "balanced_accuracy": sk.balanced_accuracy_score(of.labels, called, **w),
            "f1_macro": sk.f1_score(of.labels, called, average="macro", **w),
            "f1": sk.f1_score(of.labels, called, **w),
            "average_precision": sk.average_precision_score(of.labels, score, **w),
            "brier": sk.brier_score_loss(of.labels, score, **w),
            "sensitivity_at_90_specificity": best_sensitivity(of.labels, score, weights),
            "ece": measured(of, weights)["ece"],  # see the test of its own
        }
    )


@pytest.mark.parametrize("ties", [False, True])
@settings(max_examples=10, deadline=None)
@given(n=st.integers(20, 120), classes=st.integers(3, 11), seed=st.integers(0, 10_000))
def test_metrics_of_many_classes_equal_scikit_learns(n: int, classes: int, seed: int, *, ties: bool) -> None:
    of = outcome(n, classes, seed, ties=ties)
    truth = np.eye(classes)[of.labels]
    found = measured(of)
    del found["ece"]
    assert found == pytest.approx(
        {
            "auc": sk.roc_auc_score(of.labels, of.probabilities, average="macro", multi_class="ovr"),
            "accuracy": sk.f1_score(of.labels, of.predicted, average="micro"),
            "balanced_accuracy": sk.balanced_accuracy_score(of.labels, of.predicted),
            "f1_macro": sk.f1_score(of.labels, of.predicted, average="macro"),
            "average_precision": sk.average_precision_score(truth, of.probabilities, average="macro"),
            "brier": ((of.probabilities - truth) ** 2).sum(axis=1).mean(),
        }
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_error_equals_torchmetrics(classes: int) -> None:
    import torch

    of = outcome(300, classes, 7)
    expected = multiclass_calibration_error(
        torch.from_numpy(of.probabilities), torch.from_numpy(of.labels), num_classes=classes, n_bins=15, norm="l1"
    )
    assert measured(of)["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_integer_weights_are_repeated_images() -> None:
    of = outcome(50, 4, 3, ties=True)
    times = np.random.default_rng(0).integers(0, 4, 50)
    times[:4] = 1  # every class stays
    repeated = Outcome(np.repeat(of.labels, times), np.repeat(of.probabilities, times, axis=0), None)
    assert measured(of, times.astype(np.float32)) == pytest.approx(measured(repeated), rel=1e-5)


def test_a_class_without_images_leaves_ranking_metrics_undefined_and_the_rest_defined() -> None:
    of = outcome(40, 3, 1)
    found = measured(Outcome(of.labels % 2, of.probabilities, None))
    assert np.isnan(found["auc"])
    assert np.isnan(found["average_precision"])
    assert all(np.isfinite(found[name]) for name in ("accuracy", "balanced_accuracy", "f1_macro", "brier", "ece"))


def test_constant_scores_are_worth_a_coin() -> None:
    labels = np.array([0, 1, 0, 1, 1])
    found = measured(Outcome(labels, np.full((5, 2), 0.5), 1))
    assert found["auc"] == 0.5
    assert found["average_precision"] == pytest.approx(0.6)
    assert found["sensitivity_at_90_specificity"] == 0


def test_one_image_gives_no_ranking_and_no_crash() -> None:
    found = measured(Outcome(np.array([1]), np.array([[0.2, 0.8]]), 1))
    assert np.isnan(found["auc"])
    assert np.isnan(found["sensitivity_at_90_specificity"])
    assert found["accuracy"] == 1


def test_the_positive_class_decides_whose_f1_is_meant() -> None:
    predictions = Predictions(("a", "b", "c"), np.array([0, 0, 1]), np.eye(2)[[0, 1, 1]], ("ill", "well"), "ill")
    assert measured(outcome_of(predictions))["f1"] == pytest.approx(2 / 3)
    assert outcome_of(predictions).positive == 0


def best_sensitivity(labels: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    alarms, found, _ = sk.roc_curve(labels, score, sample_weight=weights, drop_intermediate=False)
    return float(found[alarms <= 0.1 + 1e-9].max())
