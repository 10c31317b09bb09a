"""What every protocol of classification shares: scores and comparisons of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ctkit.contracts import Difference, Floats, Params, Predictions, Protocol, Score
from ctkit.errors import DataError
from ctkit_tasks.metrics import Outcome, measure, outcome_of
from ctkit_tasks.splitting import Units, units_of
from ctkit_tasks.statistics import against_zero, bootstrap, delong, interval, seed_variance, variance_of

P = TypeVar("P", bound=Params)


class Classification(Protocol[P]):
    """A protocol whose predictions are scored by the metrics of ``ctkit_tasks.metrics``."""

    version = 2

    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        """Every metric as the mean over ``runs``, with the 95 % interval of that mean.

        The interval resamples test images (patients where they are known) within each class and the runs keep their
        predictions: it says what other test images would change, not what another seed would. The spread over seeds
        is that of the values of single runs.
        """
        outcomes, units = _aligned(runs)
        resampled = bootstrap(outcomes, units)
        values = _point_values(outcomes)
        return tuple(
            _score(metric, float(value.mean()), resampled[metric].mean(axis=1)) for metric, value in values.items()
        )

    def compare(self, arm: Sequence[Predictions], reference: Sequence[Predictions]) -> tuple[Difference, ...]:
        """Mean of ``arm`` less mean of ``reference`` for every metric, paired over the same test images.

        Repeats count as one value of their seed, their mean. Two chances add up: that of the test images, by DeLong's
        variance for the AUC of two classes where every image counts for itself, else by a paired bootstrap; and that of
        training, by the variance over seeds where a side has several. Then the test is Student's t with as many degrees
        of freedom as the seeds leave, as of two means; with one seed on both sides it is normal.
        """
        outcomes, units = _aligned([*arm, *reference])
        ours, theirs = _seed_means(arm), _seed_means(reference)
        contrast = np.r_[ours.mean(axis=0), -theirs.mean(axis=0)]
        freedom = len(ours) + len(theirs) - 2
        resampled = bootstrap(outcomes, units)
        two_classes = units.single_images and len(arm[0].classes) == 2
        found = []
        for metric, values in _point_values(outcomes).items():
            exact = two_classes and metric == "auc"
            over_images = _delong_variance(outcomes, contrast) if exact else variance_of(resampled[metric] @ contrast)
            over_seeds = seed_variance(ours @ values[: len(arm)]) + seed_variance(theirs @ values[len(arm) :])
            value = float(values @ contrast)
            tested = against_zero(value, over_images + over_seeds, freedom)
            test = ("DeLong" if exact else "paired bootstrap") + (", with variance over seeds" if freedom else "")
            found.append(Difference(metric, value, tested.low, tested.high, tested.p, test))
        return tuple(found)


def _aligned(runs: Sequence[Predictions]) -> tuple[list[Outcome], Units]:
    """The runs' numbers with the images in the order of their names, and the units that are resampled."""
    first = _by_name(runs[0])
    ordered = [_by_name(run) for run in runs]
    for run in ordered:
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


def _point_values(outcomes: Sequence[Outcome]) -> dict[str, Floats]:
    """Every metric of each run, by name: (runs,) each."""
    measured = [measure(outcome, np.ones((len(outcome.labels), 1))) for outcome in outcomes]
    return {name: np.concatenate([run[name] for run in measured]) for name in measured[0]}


def _score(metric: str, value: float, resampled: Floats) -> Score:
    if metric == "ece":  # resampling adds noise to every bin, and noise adds to this error: take off what it added
        resampled = np.maximum(resampled + value - resampled.mean(), 0)
    return Score(metric, value, *interval(resampled))


def _seed_means(runs: Sequence[Predictions]) -> Floats:
    """What averages the values of ``r`` runs within each of ``k`` seeds: (k, r). A run that names none is its own."""
    seeds = [number if run.seed is None else f"seed {run.seed}" for number, run in enumerate(runs)]
    same: Floats = np.array([[one == seed for one in seeds] for seed in dict.fromkeys(seeds)], float)
    same /= same.sum(axis=1, keepdims=True)
    return same


def _delong_variance(outcomes: Sequence[Outcome], contrast: Floats) -> float:
    positive = outcomes[0].positive
    assert positive is not None
    scores = np.stack([outcome.probabilities[:, positive] for outcome in outcomes])
    return delong(outcomes[0].labels == positive, scores, contrast)[1]
