"""What every protocol of classification shares: scores and comparisons of predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from ctkit.contracts import Difference, Floats, Params, Predictions, Protocol, Score
from ctkit.errors import DataError
from ctkit_tasks.intervals import NORMAL, Ends, Estimate, auc_ends, difference, share_ends
from ctkit_tasks.metrics import Outcome, measure, outcome_of
from ctkit_tasks.splitting import Units, units_of
from ctkit_tasks.statistics import (
    SeedPart,
    bootstrap,
    calibration_excess,
    degrees_of_freedom,
    delong,
    interval,
    seed_part,
    variance_of,
)

P = TypeVar("P", bound=Params)


class Classification(Protocol[P]):
    """A protocol whose predictions are scored by the metrics of ``ctkit_tasks.metrics``."""

    version = 5

    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        """Every metric as the mean over ``runs``, with the 95 % interval of that mean.

        The interval is over other test images (patients where they are known) of the same number in each class, and
        the runs keep their predictions: it says what other test images would change, not what another seed would. It
        is a score interval (``ctkit_tasks.intervals``): Wilson's for shares, Newcombe's for AUC, scaled to the variance
        of DeLong or of a bootstrap. ECE, and the Brier score of many classes, have the bootstrap's percentiles; that of
        ECE reaches down as far as chance may have added to it.
        """
        sample = _Sample.of(runs)
        mean = np.full(len(runs), 1 / len(runs))
        return tuple(_score(sample, metric, mean) for metric in sample.values)

    def compare(self, arm: Sequence[Predictions], reference: Sequence[Predictions]) -> tuple[Difference, ...]:
        """Mean of ``arm`` less mean of ``reference`` for every metric, paired over the same test images.

        Repeats count as one value of their seed, their mean. Two chances add up: that of the test images, by DeLong's
        variance for the AUC of two classes where every image counts for itself, else by a paired bootstrap; and that of
        training, by what seeds vary beyond it, where a side has several. The test is Student's t, with degrees of
        freedom by Satterthwaite's formula.
        """
        sample = _Sample.of([*arm, *reference])
        sides = side(arm, 0, len(reference)), side(reference, len(arm), 0)
        return tuple(_difference(sample, metric, *sides) for metric in sample.values)


@dataclass(frozen=True)
class _Sample:
    """What ``r`` runs scored on the same test images, and how that would vary over other images."""

    outcomes: list[Outcome]
    units: Units
    values: dict[str, Floats]  #: by metric (r,)
    resampled: dict[str, Floats]  #: by metric (resamples, r)

    @classmethod
    def of(cls, runs: Sequence[Predictions]) -> _Sample:
        outcomes, units = _aligned(runs)
        measured = [measure(outcome, np.ones((len(outcome.labels), 1))) for outcome in outcomes]
        values = {name: np.concatenate([run[name] for run in measured]) for name in measured[0]}
        return cls(outcomes, units, values, bootstrap(outcomes, units))

    def exact(self, metric: str) -> bool:
        """Whether the variance is DeLong's: for the AUC of two classes, where every image counts for itself."""
        return metric == "auc" and self.units.single_images and self.outcomes[0].probabilities.shape[1] == 2

    def variance(self, metric: str, contrast: Floats) -> float:
        """Variance over other images of the runs' sum by ``contrast`` (r,)."""
        if not self.exact(metric):
            return variance_of(self.resampled[metric] @ contrast)
        positive = self.outcomes[0].positive
        scores = np.stack([outcome.probabilities[:, positive] for outcome in self.outcomes])
        return delong(self.outcomes[0].labels == positive, scores, contrast)[1]

    @property
    def freedom(self) -> int:
        """Degrees of freedom of a variance over images."""
        return len(self.units.label) - len(np.unique(self.units.label))

    def estimate(self, metric: str, weights: Floats) -> Estimate:
        """The mean of the runs by ``weights`` (r,), and its variance over images."""
        value, variance = float(weights @ self.values[metric]), self.variance(metric, weights)
        if metric == "accuracy" and len(weights) == 1 and self.units.single_images and variance >= 0:
            variance = value * (1 - value) / len(self.units.label)  # no need to resample: this is Wilson's own
        return Estimate(value, variance, self._ends(metric, variance))

    def part(self, metric: str, seeds: Floats) -> SeedPart:
        """What a side's seeds add to the variance; ``seeds`` (k, r) averages the runs within each."""
        return seed_part(seeds @ self.values[metric], interaction(seeds, partial(self.variance, metric)))

    def _ends(self, metric: str, variance: float) -> Ends | None:
        first = self.outcomes[0]
        counts = np.bincount(first.labels, minlength=first.probabilities.shape[1])
        images, present = len(first.labels), counts[counts > 0]
        # How much the images of a patient err together shows in their errors; without any it is taken as halfway, by
        # ratio, between one by one and all at once.
        together = math.sqrt(images / len(self.units.label))
        if metric == "accuracy" or (metric == "brier" and len(counts) == 2):
            return share_ends(images, together)
        if metric in ("brier", "ece"):  # not on a scale of 0 to 1, and biased
            return None if variance else share_ends(images, together)
        if metric == "auc":
            groups = [(max(int(cases), 1), max(images - int(cases), 1)) for cases in counts]
            return auc_ends(groups[:1] if len(groups) == 2 else groups, together)
        if metric in ("balanced_accuracy", "f1_macro") or first.positive is None:
            return share_ends(len(present) ** 2 / float(np.sum(1 / present)), together)
        return share_ends(max(int(counts[first.positive]), 1), together)


def _score(sample: _Sample, metric: str, weights: Floats) -> Score:
    estimate, resampled = sample.estimate(metric, weights), sample.resampled[metric] @ weights
    if estimate.ends is not None:
        return Score(metric, estimate.value, *estimate.limits(NORMAL))
    low, high = interval(resampled)
    if metric == "ece" and not math.isnan(high):  # chance adds to it: the sample to its value, resampling once more
        low = max(estimate.value - calibration_excess(sample.outcomes, sample.units, weights), 0.0)
        high -= float(resampled.mean()) - estimate.value
    return Score(metric, estimate.value, low, high)


def _difference(sample: _Sample, metric: str, ours: Floats, theirs: Floats) -> Difference:
    """``ours`` and ``theirs`` (seeds of that side, runs of both) average the runs within each seed."""
    over_seeds = [sample.part(metric, side) for side in (ours, theirs)]
    arm, reference = ours.mean(axis=0), theirs.mean(axis=0)
    over_images = sample.variance(metric, arm - reference)
    freedom, seeds_lead = degrees_of_freedom(over_images, sample.freedom, over_seeds)
    one, other = sample.estimate(metric, arm), sample.estimate(metric, reference)
    tested = difference(one, other, over_images, sum(part.alone for part in over_seeds), freedom)
    test = "DeLong" if sample.exact(metric) else "paired bootstrap"
    if freedom:
        test += ", with variance over seeds" + (" that exceeds the one over images" if seeds_lead else "")
    return Difference(metric, one.value - other.value, tested.low, tested.high, tested.p, test)


def _aligned(runs: Sequence[Predictions]) -> tuple[list[Outcome], Units]:
    """The runs' numbers with the images in the order of their names, and the units that are resampled."""
    first, *others = ordered = [_by_name(run) for run in runs]
    for run in others:
        if run.names != first.names or run.classes != first.classes or not np.array_equal(run.labels, first.labels):
            raise DataError("predictions can only be compared on the same test images with the same labels")
    return [outcome_of(run) for run in ordered], units_of(first.names, first.labels, first.patients)


def _by_name(run: Predictions) -> Predictions:
    order = np.argsort(np.asarray(run.names, dtype=object))
    return replace(
        run,
        names=tuple(run.names[number] for number in order),
        labels=run.labels[order],
        probabilities=run.probabilities[order],
        patients=None if run.patients is None else tuple(run.patients[number] for number in order),
    )


def interaction(seeds: Floats, variance: Callable[[Floats], float]) -> float:
    """Sum of the variances of ``seeds`` (k, r) from their mean, which average runs within each; 0 of one seed."""
    return sum(map(variance, seeds - seeds.mean(axis=0))) if len(seeds) > 1 else 0.0


def side(runs: Sequence[Predictions], before: int, after: int) -> Floats:
    """What averages ``r`` runs within each of ``k`` seeds, and takes none of the other side: (k, before + r + after).

    A run that names no seed is its own.
    """
    seeds = [number if run.seed is None else f"seed {run.seed}" for number, run in enumerate(runs)]
    same: Floats = np.array([[one == seed for one in seeds] for seed in dict.fromkeys(seeds)], float)
    return np.pad(same / same.sum(axis=1, keepdims=True), ((0, 0), (before, after)))
