"""The checks of protocols: probabilities, scores with intervals, comparisons that are fair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ctkit.contracts import Difference, Evaluation, Floats, Predictions, Protocol, Score
from ctkit.contracts.judge import Judge
from ctkit.promises import check_predictions
from ctkit.testing import samples
from ctkit.testing.plugins import Checks, Once


class ProtocolChecks(Checks[Protocol[Any]]):
    """Of a protocol, on 56 small images of two classes, with an untrained ResNet-18, on the CPU.

    Pass parameters that make it quick.
    """

    kind = "protocol"

    @Once
    def predicted(self) -> tuple[Predictions, int]:
        """Predictions, and how often the progress was told."""
        return self._predict(self.built, "first")

    def check_predictions(self) -> None:
        """Predictions must be probabilities for the test images, and their progress told."""
        found, told = self.predicted
        check_predictions(self.judge, found, samples.Brightness())
        self.judge.must(told, "job.progress must be called, but it was not; call it regularly")

    def check_predictions_again(self) -> None:
        """The same job must give the same predictions."""
        found, _ = self.predicted
        for name, where in (("second", "a second time"), ("first", "with the files of the first time in job.folder")):
            again, _ = self._predict(self.plugin(self.params), name)
            self.judge.must(
                np.array_equal(_numbers(found), _numbers(again)),
                f"the same job must give the same predictions, but {where} they differ;"
                " use a generator seeded by job.seed, and put everything that a file depends on into its name",
            )

    def check_arithmetic(self) -> None:
        """Scores must lie in their intervals, and differences change their sign with their sides."""
        judge, protocol, found = self.judge, self.built, self.predicted[0]
        other = _blurred(found)
        for runs in ([found], [found, other]):
            _check_scores(judge, protocol.scores(runs))
        metrics = {score.metric for score in protocol.scores([found])}
        for difference in protocol.compare([found], [found]):
            _check_nothing_differs(judge, difference, metrics)
        forth, back = protocol.compare([found], [other]), protocol.compare([other], [found])
        for one, reverse in zip(forth, back, strict=True):
            _check_difference(judge, one, metrics)
            judge.must(
                one.metric == reverse.metric and math.isclose(one.difference, -reverse.difference, abs_tol=1e-12),
                f"the difference in {one.metric} must change its sign if arm and reference are swapped, but it is"
                f" {one.difference:g} and {reverse.difference:g}; subtract the reference from the arm",
            )

    def _predict(self, protocol: Protocol[Any], name: str) -> tuple[Predictions, int]:
        told: list[int] = []
        kept = self.folder / name
        kept.mkdir(exist_ok=True)
        backbone = samples.backbone(kept.parent / "backbone.safetensors")

        def progress(done: int, total: int) -> None:
            told.append(done)

        found = protocol.predict(Evaluation(samples.Brightness(), backbone, kept, 1.0, 1, "cpu", 0, progress))
        return found, len(told)


def _numbers(found: Predictions) -> Floats:
    """Probabilities, or measures, of every row."""
    return np.column_stack([found.probabilities, *found.measures.values()])


def _blurred(found: Predictions) -> Predictions:
    """Predictions for the same images that know less, or measures of the same volumes that are worse."""
    rng = np.random.default_rng(0)
    if found.measures:
        worse = {name: values * rng.uniform(0.5, 1, len(values)) for name, values in found.measures.items()}
        return replace(found, measures=worse)
    mixed = 0.5 * found.probabilities + 0.5 * rng.dirichlet(np.ones(len(found.classes)), len(found.names))
    return replace(found, probabilities=mixed)


def _check_scores(judge: Judge, scores: Sequence[Score]) -> None:
    names = [score.metric for score in scores]
    judge.must(
        names and len(set(names)) == len(names), f"scores must be of different metrics, but they are {names}; name them"
    )
    for score in scores:  # an interval of NaN is none
        judge.must(
            math.isfinite(score.value) and not (score.low > score.value or score.high < score.value),
            f"{score.metric} must be a number inside its interval,"
            f" but it is {score.value:g} in {score.low:g}..{score.high:g}; check how the interval is computed",
        )
    judge.must(
        not all(math.isnan(score.low) for score in scores),
        "no score has an interval; compute that of one metric at least",
    )


def _check_difference(judge: Judge, found: Difference, metrics: set[str]) -> None:
    judge.must(
        found.metric in metrics and found.test,
        f"a comparison must be of one of the scores, with the name of the test, but it is {found.metric!r} with"
        f" {found.test!r}; use the metric's name in scores",
    )
    judge.must(
        not (found.low > found.difference or found.high < found.difference) and 0 <= found.p <= 1,
        f"the difference in {found.metric} must be inside its interval, and p in 0..1, but it is"
        f" {found.difference:g} in {found.low:g}..{found.high:g} with p = {found.p:g}; check how the interval is"
        " computed",
    )


def _check_nothing_differs(judge: Judge, found: Difference, metrics: set[str]) -> None:
    _check_difference(judge, found, metrics)
    judge.must(
        found.difference == 0 and not abs(found.low + found.high) >= 1e-9 and found.p == 1,
        f"predictions compared with themselves must not differ in {found.metric}: 0, in an interval around it, p = 1,"
        f" but it is {found.difference:g} in {found.low:g}..{found.high:g} with p = {found.p:g}; pair the images, and"
        " define p for differences without variance",
    )
