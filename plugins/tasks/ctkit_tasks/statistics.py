"""Variances and tests: stratified bootstrap, DeLong's test, seeds beside images. Pure functions with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools, Floats
from ctkit_tasks.metrics import Outcome, calibration_bins, measure
from ctkit_tasks.splitting import Units

RESAMPLES = 2000
_CELLS = 1 << 20  # resampling counts that are held at a time


def bootstrap(outcomes: Sequence[Outcome], units: Units, resamples: int = RESAMPLES) -> dict[str, Floats]:
    """Every metric of ``r`` runs on ``resamples`` resamples of their test images, by name: (resamples, r) each.

    All runs see the same resamples, so that differences between them are paired. Units are drawn with replacement
    within each class (a patient counts to the class most of their images have). Where no class has two units there is
    nothing to resample, and all is NaN.
    """
    chunks = [
        [measure(outcome, weights) for outcome in outcomes]
        for weights in resampling_counts(units, resamples, np.random.default_rng(0))
    ]
    resampled = {
        name: np.stack([np.concatenate([chunk[run][name] for chunk in chunks]) for run in range(len(outcomes))], axis=1)
        for name in chunks[0][0]
    }
    if np.bincount(units.label).max() < 2:
        return {name: np.full_like(values, np.nan) for name, values in resampled.items()}
    return resampled


def resampling_counts(units: Units, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """How often each of ``n`` images is in each resample, in portions (n, b) that fit into the processor's cache."""
    portion = max(1, _CELLS // len(units.of_image))
    for start in range(0, resamples, portion):
        count = min(portion, resamples - start)
        drawn = np.zeros((len(units.label), count), np.float32)
        for label in np.unique(units.label):
            members = np.flatnonzero(units.label == label)
            draws = rng.integers(len(members), size=(count, len(members))) + np.arange(count)[:, None] * len(members)
            times = np.bincount(draws.ravel(), minlength=count * len(members))
            drawn[members] = times.reshape(count, len(members)).T
        yield drawn[units.of_image]


def interval(resampled: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of resampled values (resamples,); NaN where none is defined."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def calibration_excess(outcomes: Sequence[Outcome], units: Units, weights: Floats) -> float:
    """How far the mean ECE of runs by ``weights`` (r,) may be above the true one: less than this in 39 of 40 samples.

    Chance moves every bin, and ECE adds up the moves without their sign: a perfectly calibrated model has an ECE above
    0. Resampled values do not show how much, because ECE is not smooth at 0; resampled bins do. By the triangle
    inequality ECE moves by at most the sum over its bins.
    """
    whole = np.ones((len(units.of_image), 1))
    moved = [
        weights @ [np.abs(calibration_bins(one, counts) - calibration_bins(one, whole)).sum(axis=0) for one in outcomes]
        for counts in resampling_counts(units, RESAMPLES, np.random.default_rng(0))
    ]
    return float(np.quantile(np.concatenate(moved), 0.975))


def variance_of(resampled: Floats) -> float:
    """Variance of resampled values (resamples,); NaN where none is defined."""
    defined = resampled[~np.isnan(resampled)]
    return float(defined.var(ddof=1)) if len(defined) > 1 else math.nan


def seed_variance(values: Floats) -> float:
    """Variance of the mean of ``k`` seeds, from their values (k,); 0 for one seed, which shows none."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def delong(positive: Bools, scores: Floats, coefficients: Floats) -> tuple[float, float]:
    """A contrast of ``r`` correlated AUCs of the same ``n`` images, and its variance over other images.

    ``positive`` is (n,), ``scores`` (r, n); ``coefficients`` (r,) of 1 and -1 compare two. DeLong, DeLong &
    Clarke-Pearson 1988, by the ranks of Sun & Xu 2014. NaN where there are too few images on a side: for the contrast
    one, for the variance two.

    >>> positive = np.array([False, False, False, True, True, True])
    >>> scores = np.array([[0.1, 0.4, 0.3, 0.8, 0.7, 0.9], [0.1, 0.6, 0.3, 0.5, 0.7, 0.9]])
    >>> value, variance = delong(positive, scores, np.array([1.0, -1.0]))  # by how much the first AUC is larger
    >>> round(value, 3), round(variance, 4)
    (0.111, 0.0247)
    """
    from scipy.stats import rankdata  # a second to import

    cases, controls = int(positive.sum()), int((~positive).sum())
    if min(cases, controls) < 1:
        return math.nan, math.nan
    overall = rankdata(scores, axis=1)
    of_cases = (overall[:, positive] - rankdata(scores[:, positive], axis=1)) / controls
    of_controls = 1 - (overall[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / cases
    value = float(coefficients @ of_cases.mean(axis=1))
    if min(cases, controls) < 2:
        return value, math.nan
    variance = np.var(coefficients @ of_cases, ddof=1) / cases + np.var(coefficients @ of_controls, ddof=1) / controls
    return value, float(variance)


@dataclass(frozen=True)
class SeedPart:
    """What the seeds of one side add to the variance of their mean."""

    observed: float  #: variance of the mean, by the values that were seen, which are all of the same images
    alone: float  #: of that, what the images do not explain
    freedom: int


def seed_part(values: Floats, interaction: float) -> SeedPart:
    """What ``k`` seeds of values (k,) add; ``interaction`` is the variance over images of their deviations, summed.

    Seeds and images are crossed: seeds differ on these images more than they would on all, since each errs on images of
    its own. That interaction is part of the variance over images as well, so it is taken off here.
    """
    seeds, observed = len(values), seed_variance(values)
    explained = interaction / (seeds - 1) / seeds if seeds > 1 else 0.0
    return SeedPart(observed, max(observed - explained, 0.0), seeds - 1)


def degrees_of_freedom(images: float, image_freedom: int, sides: Sequence[SeedPart]) -> tuple[float, bool]:
    """Of the variance ``images`` over images, with that over the seeds of both sides (Satterthwaite 1946).

    Each part counts with its own degrees of freedom, so that few seeds cost power only as far as they vary. With one
    seed on each side it is 0, for the normal distribution. The second value says whether seeds vary more than images
    do: then what decides is an estimate from few seeds, which may be small by chance, and the degrees of freedom are at
    most those of the seeds. They are at least 1: what is taken off the variance of seeds would leave less.
    """
    of_seeds, alone = sum(side.freedom for side in sides), sum(side.alone for side in sides)
    if not of_seeds:
        return 0.0, False
    parts = [(images, image_freedom), *((side.observed, side.freedom) for side in sides if side.alone)]
    spread = sum(variance**2 / max(freedom, 1) for variance, freedom in parts)
    freedom = max((images + alone) ** 2 / spread, 1.0) if spread > 0 else float(of_seeds)
    return (min(freedom, of_seeds), True) if alone > images else (freedom, False)


@dataclass(frozen=True)
class Tested:
    """The 95 % interval of a value, and the two-sided p value against zero."""

    low: float
    high: float
    p: float


def against_zero(value: float, variance: float, freedom: float) -> Tested:
    """Test a value by its variance: Student's t with ``freedom`` degrees of freedom, normal where that is 0.

    NaN where the variance is, or where a value other than zero has none to be judged by.
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit  # half a second to import

    error = math.sqrt(variance)
    if error < 1e-12:  # equal up to rounding, or without any spread to judge by
        return Tested(0.0, 0.0, 1.0) if abs(value) < 1e-12 else Tested(math.nan, math.nan, math.nan)
    tail = stdtr(freedom, -abs(value) / error) if freedom else ndtr(-abs(value) / error)
    reach = error * float(stdtrit(freedom, 0.975) if freedom else ndtri(0.975))
    return Tested(value - reach, value + reach, 2 * float(tail))
