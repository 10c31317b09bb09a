"""What every protocol of segmentation shares: scores and comparisons of what was measured on volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from ctkit.contracts import Difference, Floats, Params, Predictions, Protocol, Score
from ctkit.errors import DataError
from ctkit_tasks.classification import interaction, side
from ctkit_tasks.intervals import NORMAL, Estimate, difference, share_ends
from ctkit_tasks.statistics import against_zero, degrees_of_freedom, seed_part

P = TypeVar("P", bound=Params)

_HIGHEST = {"dice": 1.0}  # of a metric's scale, by the first word of its name; all scales begin at 0


class Segmentation(Protocol[P]):
    """A protocol whose predictions are measures of test volumes. A patient's volumes count as their mean."""

    version = 2
    masks = True

    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        """Every measure as the mean over patients and ``runs``, with the 95 % interval of Student's t over patients.

        Equal values of all patients show no variance: Dice then has Wilson's interval for as many cases, HD95 has none.
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
    if alike := _equal(metric, values):
        return Score(metric, alike.value, *alike.limits(NORMAL))
    value = float(values.mean())
    tested = against_zero(value, _variance(values), len(values) - 1)
    return Score(metric, value, max(tested.low, 0.0), min(tested.high, _HIGHEST.get(metric.split("_")[0], math.inf)))


def _equal(metric: str, values: Floats) -> Estimate | None:
    """What values (p,) tell if they are equal: on a scale with ends as much as ``p`` cases, else no interval."""
    if np.ptp(values) > 1e-12:
        return None
    known = len(values) > 1 and metric.split("_")[0] in _HIGHEST
    return Estimate(float(values[0]), 0.0 if known else math.nan, share_ends(len(values)))


def _difference(metric: str, values: Floats, ours: Floats, theirs: Floats) -> Difference:
    """``ours`` and ``theirs`` (seeds of that side, runs of both) average the runs within each seed."""
    one, other = (values @ side.mean(axis=0) for side in (ours, theirs))
    value, over_patients, patients = float((one - other).mean()), _variance(one - other), len(values) - 1
    means, variance = values.mean(axis=0), lambda contrast: _variance(values @ contrast)
    seeds = [seed_part(each @ means, interaction(each, variance)) for each in (ours, theirs)]
    freedom, seeds_lead = degrees_of_freedom(over_patients, patients, seeds)
    over_seeds = sum(part.alone for part in seeds)
    if (alike := _equal(metric, one)) and (same := _equal(metric, other)):
        tested = difference(alike, same, over_patients, over_seeds, freedom or patients)
    else:
        tested = against_zero(value, over_patients + over_seeds, freedom or patients)
    test = "paired t over patients" + (", with variance over seeds" if freedom else "")
    test += " that exceeds the one over patients" if seeds_lead else ""
    return Difference(metric, value, tested.low, tested.high, tested.p, test)
