"""Metrics of classification, each for many weightings of the images at once. Pure functions.

Every metric takes an ``Outcome`` of ``n`` images and weights (n, b), and gives ``b`` values: one column of ones is the
metric itself, columns of resampling counts are its bootstrap. A metric that is undefined is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Floats, Ints, Predictions

Weights = NDArray[np.floating[Any]]

SPECIFICITY = 0.9  #: at which sensitivity is read
_BINS = 15  # of confidence


@dataclass(frozen=True)
class Outcome:
    """What was predicted for ``n`` images, as numbers."""

    labels: Ints  #: (n,)
    probabilities: Floats  #: (n, classes)
    positive: int | None  #: number of the class that F1 and sensitivity speak of; of two classes one always is

    @property
    def predicted(self) -> Ints:
        """The most probable class of each image (n,), the one of lower number where two are equal."""
        return np.asarray(self.probabilities.argmax(axis=1))


def outcome_of(predictions: Predictions) -> Outcome:
    """Take the numbers from predictions; of two classes the second is positive where none is named."""
    positive = None if len(predictions.classes) != 2 else 1
    if predictions.positive is not None:
        positive = predictions.classes.index(predictions.positive)
    return Outcome(predictions.labels, predictions.probabilities, positive)


def measure(outcome: Outcome, weights: Weights) -> dict[str, Floats]:
    """Every metric by name, each (b,). Those of a positive class are there only where one is named.

    Of two classes AUC, average precision and Brier score are the positive one's. Of more, AUC and average precision are
    means over the classes, each against the rest, and undefined where a class has no image.
    """
    classes = outcome.probabilities.shape[1]
    positive = outcome.positive
    scored = [positive] if classes == 2 and positive is not None else range(classes)
    rankings = [ranking(outcome, number, weights) for number in scored]
    matrix = confusion_matrix(outcome, weights)
    measured = {
        "auc": np.mean([auc(ranked) for ranked in rankings], axis=0),
        "accuracy": accuracy(matrix),
        "balanced_accuracy": balanced_accuracy(matrix),
        "f1_macro": f1_macro(matrix),
        "average_precision": np.mean([average_precision(ranked) for ranked in rankings], axis=0),
        "brier": brier(outcome, weights),
        "ece": calibration_error(outcome, weights),
    }
    if positive is not None:
        ranked = rankings[0] if len(rankings) == 1 else rankings[positive]
        measured["f1"] = f1_per_class(matrix)[positive]
        measured[f"sensitivity_at_{100 * SPECIFICITY:.0f}_specificity"] = sensitivity(ranked, SPECIFICITY)
    return measured


# --- metrics of a ranking -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """The ``m`` images of one class among the rest by falling probability of that class; every array holds weights."""

    own: Weights  #: (m, b) of the image itself
    found: Weights  #: (m, b) of the class's images that are as probable or more
    above: Weights  #: (m, b) of the rest that is more probable
    alarms: Weights  #: (m, b) of the rest that is as probable or more
    cases: Weights  #: (b,) of the class
    controls: Weights  #: (b,) of the rest


def ranking(outcome: Outcome, number: int, weights: Weights) -> Ranking:
    """Rank the images by their probability of class ``number``."""
    score = -outcome.probabilities[:, number]
    order = np.argsort(score, kind="stable")
    inside = outcome.labels[order] == number
    cases, controls = order[inside], order[~inside]
    own, found, alarms = weights[cases], _running(weights[cases]), _running(weights[controls])
    return Ranking(
        own=own,
        found=found[np.searchsorted(score[cases], score[cases], "right")],
        above=alarms[np.searchsorted(score[controls], score[cases], "left")],
        alarms=alarms[np.searchsorted(score[controls], score[cases], "right")],
        cases=found[-1],
        controls=alarms[-1],
    )


def auc(ranked: Ranking) -> Floats:
    """Area under the ROC curve: the share of pairs of a case and a control in the right order, ties counting a half."""
    below = ranked.controls - (ranked.above + ranked.alarms) / 2
    return _ratio((ranked.own * below).sum(axis=0), ranked.cases * ranked.controls)


def average_precision(ranked: Ranking) -> Floats:
    """Precision at each threshold, weighted by the recall that it adds."""
    precision = _ratio(ranked.found, ranked.found + ranked.alarms)
    return _ratio(np.where(ranked.own > 0, ranked.own * precision, 0).sum(axis=0), ranked.cases)


def sensitivity(ranked: Ranking, specificity: float) -> Floats:
    """Highest sensitivity that a threshold reaches at this specificity or a higher one."""
    allowed = (1 - specificity + 1e-9) * ranked.controls
    found = np.where(ranked.alarms <= allowed, ranked.found, 0).max(axis=0, initial=0)
    return np.where(ranked.controls > 0, _ratio(found, ranked.cases), np.nan)


def _running(weights: Weights) -> Weights:
    """Sums of the first 0, 1, ... n rows: (n + 1, b)."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


# --- metrics of the class that is called --------------------------------------------------------------------------


def confusion_matrix(outcome: Outcome, weights: Weights) -> Floats:
    """Weight of the images of each true class (rows) that were called each class (columns): (classes, classes, b)."""
    classes = outcome.probabilities.shape[1]
    cell = outcome.labels * classes + outcome.predicted
    table = np.eye(classes * classes, dtype=weights.dtype)[:, cell] @ weights
    return table.astype(np.float64).reshape(classes, classes, -1)


def accuracy(matrix: Floats) -> Floats:
    """Share of images that are called what they are; equals micro-averaged F1."""
    return _ratio(np.trace(matrix), matrix.sum(axis=(0, 1)))


def balanced_accuracy(matrix: Floats) -> Floats:
    """Mean recall of the classes that have images."""
    return _mean_where_defined(_ratio(_diagonal(matrix), matrix.sum(axis=1)))


def f1_per_class(matrix: Floats) -> Floats:
    """F1 of each class (classes, b); undefined where a class neither is there nor is called."""
    return _ratio(2 * _diagonal(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def f1_macro(matrix: Floats) -> Floats:
    """Mean F1 of the classes that are there or are called."""
    return _mean_where_defined(f1_per_class(matrix))


# --- metrics of probabilities -------------------------------------------------------------------------------------


def brier(outcome: Outcome, weights: Weights) -> Floats:
    """Mean squared error of the probabilities: of two classes the positive one's, of more summed over the classes."""
    classes = outcome.probabilities.shape[1]
    error = (outcome.probabilities - np.eye(classes)[outcome.labels]) ** 2
    per_image = error[:, 0] if classes == 2 else error.sum(axis=1)  # of two classes both err alike
    return _ratio(per_image.astype(weights.dtype) @ weights, weights.sum(axis=0))


def calibration_error(outcome: Outcome, weights: Weights) -> Floats:
    """Expected calibration error of the called class, over 15 bins of equal width (Guo et al. 2017)."""
    return np.asarray(np.abs(calibration_bins(outcome, weights)).sum(axis=0))


def calibration_bins(outcome: Outcome, weights: Weights) -> Floats:
    """Accuracy less confidence of each bin, times its share of the images: (15, b). Their sizes add up to the error."""
    confidence = outcome.probabilities.max(axis=1)
    surplus = (outcome.predicted == outcome.labels) - confidence
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    per_bin = (np.eye(_BINS)[:, bins] * surplus).astype(weights.dtype) @ weights
    return _ratio(per_bin, weights.sum(axis=0))


def _diagonal(matrix: Floats) -> Floats:
    return np.asarray(np.diagonal(matrix).T)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Divide, NaN where the whole is nothing."""
    ratio = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean_where_defined(values: Floats) -> Floats:
    """Mean over the classes (classes, b) of what is not NaN."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))
