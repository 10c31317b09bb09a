"""Arithmetic on predictions and selections for the plots: ROC, calibration, confusion, overlap. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctkit import SelectionTable
from ctkit.contracts import Bools, Floats, Ints, Predictions

FALSE_POSITIVE_RATES = np.linspace(0, 1, 201)  #: (201,) where ROC curves are read off to average them


def roc(scores: Floats, positive: Bools) -> tuple[Floats, Floats]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); equal scores share one corner."""
    order = np.argsort(-scores, kind="stable")
    corner = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(positive[order])[corner]
    alarms = np.cumsum(~positive[order])[corner]
    return np.append(0, alarms / max(alarms[-1], 1)), np.append(0, hits / max(hits[-1], 1))


def positive_class(run: Predictions) -> int:
    """Number of the positive one of two classes: the second where none is named."""
    return 1 if run.positive is None else run.classes.index(run.positive)


def mean_roc(runs: Sequence[Predictions]) -> Floats:
    """True positive rates (201,) at ``FALSE_POSITIVE_RATES``: the mean over runs and, for more than two classes, over
    each class against the rest.
    """
    curves = []
    for run in runs:
        classes = range(len(run.classes)) if len(run.classes) > 2 else [positive_class(run)]
        for number in classes:
            positive = run.labels == number
            if positive.any() and not positive.all():
                false, true = roc(run.probabilities[:, number], positive)
                curves.append(_read_off(false, true))
    return np.stack(curves).mean(axis=0) if curves else np.full_like(FALSE_POSITIVE_RATES, np.nan)


def _read_off(false: Floats, true: Floats) -> Floats:
    """Interpolate a ROC curve; where it rises straight up, take the upper end, but begin at (0, 0)."""
    last = np.append(np.diff(false) != 0, True)
    curve: Floats = np.interp(FALSE_POSITIVE_RATES, false[last], true[last])
    curve[0] = 0
    return curve


def calibration(runs: Sequence[Predictions]) -> tuple[Floats, Floats]:
    """Predicted probability and observed frequency in bins of equal size, at least 20 predictions to a bin.

    Two classes: of the positive class. More: confidence in the class predicted, and how often that is right.
    """
    predicted, observed = [], []
    for run in runs:
        if len(run.classes) == 2:
            predicted.append(run.probabilities[:, positive_class(run)])
            observed.append(run.labels == positive_class(run))
        else:
            predicted.append(run.probabilities.max(axis=1))
            observed.append(run.probabilities.argmax(axis=1) == run.labels)
    probability, outcome = np.concatenate(predicted), np.concatenate(observed)
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, int(np.clip(len(order) // 20, 1, 10)))
    return (
        np.array([probability[members].mean() for members in bins]),
        np.array([outcome[members].mean() for members in bins]),
    )


def confusion(runs: Sequence[Predictions]) -> Ints:
    """Counts (classes, classes) of true class by predicted class, summed over runs."""
    classes = len(runs[0].classes)
    counts = np.zeros((classes, classes), np.int64)
    for run in runs:
        np.add.at(counts, (run.labels, run.probabilities.argmax(axis=1)), 1)
    return counts


def overlap(selections: Sequence[SelectionTable]) -> Floats:
    """Jaccard indices (n, n): slices that two selections keep, as a share of those that either keeps."""
    numbers: dict[str, int] = {}
    kept = [_kept_slices(selection, numbers) for selection in selections]
    shares = np.full((len(kept), len(kept)), np.nan)
    for i, one in enumerate(kept):
        for j, other in enumerate(kept[: i + 1]):
            both = len(np.intersect1d(one, other, assume_unique=True))
            either = len(one) + len(other) - both
            shares[i, j] = shares[j, i] = both / either if either else np.nan
    return shares


def _kept_slices(selection: SelectionTable, numbers: dict[str, int]) -> Ints:
    """A number for each slice kept that is the same in every selection; ``numbers`` learns the volumes' names."""
    volume = np.array([numbers.setdefault(name, len(numbers)) for name in selection.names], np.int64)
    return volume[selection.volume[selection.kept]] << 32 | selection.index[selection.kept]


def thinned(steps: Floats, values: Floats, most: int = 300) -> tuple[Floats, Floats]:
    """A curve of at most ``most`` points: means of consecutive ones."""
    if len(steps) <= most:
        return steps, values
    starts = np.linspace(0, len(steps), most, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / sizes, np.add.reduceat(values, starts) / sizes
