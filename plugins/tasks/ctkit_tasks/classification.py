"""What every protocol of classification shares: scores and comparisons of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ctkit.contracts import Difference, Floats, Params, Predictions, Protocol, Score
from ctkit.errors import DataError
from ctkit_tasks.metrics import Outcome, measure, outcome_of
from ctkit_tasks.splitting import Units, units_of
from ctkit_tasks.statistics import bootstrap, bootstrap_p, delong, interval

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

        DeLong's test for the AUC of two classes where every image counts for itself, else a paired bootstrap.
        """
        outcomes, units = _aligned([*arm, *reference])
        contrast = np.r_[np.full(len(arm), 1 / len(arm)), np.full(len(reference), -1 / len(reference))]
        resampled = bootstrap(outcomes, units)
        return tuple(
            _delong_difference(outcomes, contrast)
            if metric == "auc" and units.single_images and len(arm[0].classes) == 2
            else _bootstrap_difference(metric, float(values @ contrast), resampled[metric] @ contrast)
            for metric, values in _point_values(outcomes).items()
        )


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
    return Predictions(
        names=tuple(run.names[number] for number in order),
        labels=run.labels[order],
        probabilities=run.probabilities[order],
        classes=run.classes,
        positive=run.positive,
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


def _bootstrap_difference(metric: str, value: float, resampled: Floats) -> Difference:
    return Difference(metric, value, *interval(resampled), bootstrap_p(resampled), "paired bootstrap")


def _delong_difference(outcomes: Sequence[Outcome], contrast: Floats) -> Difference:
    positive = outcomes[0].positive
    assert positive is not None
    scores = np.stack([outcome.probabilities[:, positive] for outcome in outcomes])
    found = delong(outcomes[0].labels == positive, scores, contrast)
    return Difference("auc", found.value, found.low, found.high, found.p, "DeLong")
