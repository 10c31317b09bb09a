"""Intervals and tests: stratified bootstrap and DeLong's test. Pure functions with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools, Floats
from ctkit_tasks.metrics import Outcome, measure
from ctkit_tasks.splitting import Units

RESAMPLES = 2000
_CELLS = 1 << 20  # resampling counts that are held at a time
_NORMAL_975 = 1.959963984540054  # quantile 0.975 of the standard normal distribution


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


def bootstrap_p(resampled: Floats) -> float:
    """Two-sided p value of resampled differences (resamples,) against no difference (Davison & Hinkley 1997, ch. 4)."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return math.nan
    fewer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (int(fewer) + 1) / (len(defined) + 1))


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of AUCs with its 95 % interval and p value against zero."""

    value: float
    low: float
    high: float
    p: float


def delong(positive: Bools, scores: Floats, coefficients: Floats) -> Contrast:
    """Test a contrast of ``r`` correlated AUCs of the same ``n`` images: ``positive`` (n,), ``scores`` (r, n).

    ``coefficients`` (r,) of 1 and -1 compare two. DeLong, DeLong & Clarke-Pearson 1988, by the ranks of Sun & Xu 2014.
    The interval and p are NaN where the variance is: fewer than two images on a side, or every score the same rank.
    """
    cases, controls = int(positive.sum()), int((~positive).sum())
    if min(cases, controls) < 1:
        return Contrast(math.nan, math.nan, math.nan, math.nan)
    overall = _midranks(scores)
    of_cases = (overall[:, positive] - _midranks(scores[:, positive])) / controls
    of_controls = 1 - (overall[:, ~positive] - _midranks(scores[:, ~positive])) / cases
    value = float(coefficients @ of_cases.mean(axis=1))
    if min(cases, controls) < 2:
        return Contrast(value, math.nan, math.nan, math.nan)
    variance = np.var(coefficients @ of_cases, ddof=1) / cases + np.var(coefficients @ of_controls, ddof=1) / controls
    return _normal_contrast(value, math.sqrt(variance))


def _normal_contrast(value: float, error: float) -> Contrast:
    if error < 1e-12:  # equal up to rounding, or without any spread to judge by
        alike = abs(value) < 1e-12
        return Contrast(value, 0.0, 0.0, 1.0) if alike else Contrast(value, math.nan, math.nan, math.nan)
    p = math.erfc(abs(value) / error / math.sqrt(2))
    return Contrast(value, value - _NORMAL_975 * error, value + _NORMAL_975 * error, p)


def _midranks(scores: Floats) -> Floats:
    """Ranks 1..n within each row (r, n); equal scores share their mean rank."""
    ranks = np.empty(scores.shape)
    for row, values in enumerate(scores):
        _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks[row] = (counts.cumsum() - (counts - 1) / 2)[which]
    return ranks
