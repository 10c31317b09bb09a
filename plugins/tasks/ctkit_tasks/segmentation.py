"""What every protocol of segmentation shares: scores and comparisons of what was measured on volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from ctkit.contracts import Difference, Floats, Params, Predictions, Protocol, Score
from ctkit.errors import DataError
from ctkit_tasks.classification import interaction, side
from ctkit_tasks.intervals import NORMAL
from ctkit_tasks.statistics import Tested, against_zero, degrees_of_freedom, seed_part

P = TypeVar("P", bound=Params)

_HIGHEST = {"dice": 1.0}  # of a metric's scale, by the first word of its name; all scales begin at 0
_EQUAL = 1e-12  # values that differ by less are equal but for rounding


class Segmentation(Protocol[P]):
    """A protocol whose predictions are measures of test volumes. A patient's volumes count as their mean."""

    version = 2
    masks = True

    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        """Every measure as the mean over patients and ``runs``, with the 95 % interval of Student's t over patients.

        Equal values of all patients show no variance: Dice then has Wilson's interval, by the share of other patients
        that may have another value; HD95 has none. The same holds for differences.
        """
        mean = np.full(len(runs), 1 / len(runs))
        return tuple(_score(metric, values @ mean) for metric, values in _by_patient(runs).items())

    def compare(self, arm: Sequence[Predictions], reference: Sequence[Predictions]) -> tuple[Difference, ...]:
        """Mean of ``arm`` less mean of ``reference`` for every measure, paired over the same patients.

        Student's t. Repeats count as one value of their seed, their mean; where a side has several seeds, what they
        vary beyond the patients is added, as in classification.
        """
        sides = side(arm, 0, len(reference)), side(reference, len(arm), 0)
        of = _by_patient([*arm, *reference])
        return tuple(_difference(metric, values, *sides) for metric, values in of.items())


def _by_patient(runs: Sequence[Predictions]) -> Mapping[str, Floats]:
    """Every measure of ``p`` patients in ``r`` runs (p, r). Raises ``DataError`` where runs are of other volumes."""
    first = runs[0]
    if any(run.names != first.names or run.measures.keys() != first.measures.keys() for run in runs):
        raise DataError("predictions can only be compared on the same test volumes with the same measures")
    _, of = np.unique(np.asarray(first.patients or first.names, dtype=object), return_inverse=True)
    volumes = np.bincount(of)
    return {
        metric: np.stack([np.bincount(of, run.measures[metric]) / volumes for run in runs], axis=1)
        for metric in first.measures
    }


def _variance(values: Floats) -> float:
    """Of the mean of values (p,); NaN for one, which shows none."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.nan


def _score(metric: str, values: Floats) -> Score:
    value, patients = float(values.mean()), len(values)
    if np.ptp(values) <= _EQUAL:
        unseen = _unseen(metric, patients, NORMAL)
        return Score(metric, value, value - unseen * value, value + unseen * (1 - value))
    tested = against_zero(value, _variance(values), patients - 1)
    return Score(metric, value, max(tested.low, 0.0), min(tested.high, _HIGHEST.get(metric.split("_")[0], math.inf)))


def _unseen(metric: str, patients: int, critical: float) -> float:
    """Largest share of all patients that may have other values than the equal ones of so many: Wilson's limit.

    NaN for one patient, and where the scale has no end: then nothing bounds what the others have.
    """
    return critical**2 / (patients + critical**2) if patients > 1 and metric.split("_")[0] in _HIGHEST else math.nan


def _difference(metric: str, values: Floats, ours: Floats, theirs: Floats) -> Difference:
    """``ours`` and ``theirs`` (seeds of that side, runs of both) average the runs within each seed."""
    from scipy.special import stdtrit  # half a second to import

    apart = values @ (ours.mean(axis=0) - theirs.mean(axis=0))
    value, over_patients, patients = float(apart.mean()), _variance(apart), len(values) - 1
    means, variance = values.mean(axis=0), lambda contrast: _variance(values @ contrast)
    seeds = [seed_part(each @ means, interaction(each, variance)) for each in (ours, theirs)]
    found, seeds_lead = degrees_of_freedom(over_patients, patients, seeds)
    freedom, over_seeds = found or patients, sum(part.alone for part in seeds)
    tested = against_zero(value, over_patients + over_seeds, freedom)
    if np.ptp(apart) <= _EQUAL:  # as where both arms find nothing: no variance to judge by
        critical = float(stdtrit(freedom, 0.975))
        unseen = _unseen(metric, patients + 1, critical)
        below, above = (math.hypot(unseen * end, critical * math.sqrt(over_seeds)) for end in (1 + value, 1 - value))
        by = ((below if value > 0 else above) / critical) ** 2
        p = against_zero(value, by, freedom).p if abs(value) > _EQUAL else 1.0
        tested = Tested(value - below, value + above, p)
    test = "paired t over patients" + (", with variance over seeds" if found else "")
    test += " that exceeds the one over patients" if seeds_lead else ""
    return Difference(metric, value, tested.low, tested.high, tested.p, test)
