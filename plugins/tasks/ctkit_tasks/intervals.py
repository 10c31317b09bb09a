"""Intervals of scores and of their differences that keep a width where a score is 0 or 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctkit_tasks.statistics import Tested, against_zero

NORMAL = 1.959963984540054  #: the 97.5 % point of the normal distribution


@dataclass(frozen=True)
class Ends:
    """How the variance of a score falls to 0 at both ends of its scale, 0 and 1."""

    size: float  #: of the sample of a share that has this score's variance near 1
    variance: Callable[[float], float]  #: of the score over samples of images that err one by one, at a true value
    together: float = 1.0  #: by what factor the variance is larger where images err together, taken where none errs


def share_ends(size: float, together: float = 1.0) -> Ends:
    """Of a share of ``size`` images, which is binomial: Wilson's interval comes of it (Wilson 1927)."""
    return Ends(size, lambda share: share * (1 - share) / size, together)


def auc_ends(groups: Sequence[tuple[int, int]], together: float = 1.0) -> Ends:
    """Of the mean AUC over ``groups``, each the number of cases and of controls.

    The variance of Hanley & McNeil (1982) in the form of method 5 of Newcombe (2006), which does not change when cases
    and controls are exchanged. Of several classes, each against the rest, an image in error lowers two.
    """
    shared = min(2, len(groups)) / len(groups) ** 2

    def variance(auc: float) -> float:
        spread = (1 - auc) / (2 - auc) + auc / (1 + auc)
        each = ((1 + ((cases + controls) / 2 - 1) * spread) / (cases * controls) for cases, controls in groups)
        return auc * (1 - auc) * sum(each) * shared

    near = 1 - 1e-9
    return Ends(near * (1 - near) / variance(near), variance, together)


@dataclass(frozen=True)
class Estimate:
    """A score, and its variance over other test images as these images tell it."""

    value: float
    variance: float
    ends: Ends | None = None  #: None: as wide everywhere

    def limits(self, critical: float) -> tuple[float, float]:
        """Lowest and highest true value that is within ``critical`` standard deviations of the score.

        The deviation is that at the true value (a score interval): of the estimated size where the score is, and
        falling to 0 towards the ends as ``ends`` says. A score next to an end cannot tell its variance, as few images
        or none are in error; so both variances are taken as that of one error is added, which decides at an end and is
        lost in the middle. NaN where the score or the variance is.
        """
        if math.isnan(self.value + self.variance):
            return math.nan, math.nan
        if self.ends is None:
            reach = critical * math.sqrt(self.variance)
            return self.value - reach, self.value + reach
        one_error = self.ends.variance(1 - 1 / max(self.ends.size, 2.0))
        shown = self.variance + self.ends.together * one_error
        ratio = shown / (self.ends.variance(self.value) + one_error)
        return self._limit(critical, ratio, 0.0), self._limit(critical, ratio, 1.0)

    def _limit(self, critical: float, ratio: float, end: float) -> float:
        from scipy.optimize import brentq

        assert self.ends is not None
        variance = self.ends.variance

        def beyond(true: float) -> float:
            return abs(true - self.value) - critical * math.sqrt(max(ratio * variance(true), 0.0))

        # Towards the end the distance to the score grows from 0 and the variance falls to 0, so that they cross once.
        start = self.value + 1e-9 * (end - self.value)
        return float(brentq(beyond, start, end, xtol=1e-10)) if beyond(start) < 0 < beyond(end) else self.value


def difference(arm: Estimate, reference: Estimate, both: float, seeds: float, freedom: float) -> Tested:
    """Test the difference of two scores against zero, and give its interval.

    ``both`` is its variance over images, ``seeds`` that over seeds alone; ``freedom`` as ``against_zero`` takes it. The
    interval combines the limits of the scores by the method of Zou (2007), with their correlation; away from the ends
    that is the difference and so many of its standard errors, from which p comes everywhere. Where p has nothing to be
    judged by, since neither score varies, it comes from the interval. NaN where a variance is.
    """
    from scipy.special import ndtri, stdtrit  # half a second to import

    value = arm.value - reference.value
    tested = against_zero(value, both + seeds, freedom)
    critical = float(stdtrit(freedom, 0.975) if freedom else ndtri(0.975))
    low, high = arm.limits(critical)
    other_low, other_high = reference.limits(critical)
    each = (arm.variance * reference.variance) ** 0.5
    correlation = (arm.variance + reference.variance - both) / 2 / each if each else 0.0
    more = critical**2 * seeds
    below = math.sqrt(more + _combined(arm.value - low, other_high - reference.value, correlation))
    above = math.sqrt(more + _combined(high - arm.value, reference.value - other_low, correlation))
    side = below if value > 0 else above
    p = against_zero(value, (side / critical) ** 2, freedom).p if math.isnan(tested.p) else tested.p
    return Tested(value - below, value + above, p)


def _combined(one: float, other: float, correlation: float) -> float:
    return max(one**2 + other**2 - 2 * correlation * one * other, 0.0)
