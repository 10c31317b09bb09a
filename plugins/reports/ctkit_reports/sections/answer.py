"""The first section: per arm in plain words what it kept, what it saved and how it scored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ctkit import ComparisonRow, Run, RunArm, ScoreRow, quantities
from ctkit.contracts import main_metric
from ctkit_reports import cost, naming, question, verdict, wording
from ctkit_reports.elements import Looks, unique
from ctkit_reports.figures import Look


@dataclass(frozen=True)
class Line:
    """One score of an arm in words, and what it shows against the reference."""

    verdict: str
    where: str
    score: str
    against: str
    same_size: tuple[str, ...]  #: what it shows against the arms of its size
    bought: tuple[str, ...]  #: by pre-training, over each baseline


@dataclass(frozen=True)
class Card:
    """One arm's part of the answer."""

    arm: str
    look: Look
    reference: bool
    share: str
    kept: str
    cost: tuple[str, str]  #: of pre-training against the reference, such as ("5.4 ×", "less to pre-train"); or empty
    trainings: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Answer:
    """The first section."""

    headline: str
    further: tuple[str, ...]
    gains: tuple[str, ...]  #: over the baselines
    cards: tuple[Card, ...]
    cautions: tuple[str, ...]


def answer(run: Run, looks: Looks) -> Answer:
    """The answer: per arm what it kept, what it saved and how it scored."""
    order = sorted(run.arms, key=lambda arm: arm.name != run.reference)
    cards = tuple(_card(run, arm, looks[arm.name]) for arm in order)
    gains, cautions = tuple(verdict.gains(run)), tuple(verdict.cautions(run))
    return Answer(question.headline(run), question.further(run), gains, cards, cautions)


def _card(run: Run, arm: RunArm, look: Look) -> Card:
    reference = arm.name == run.reference
    methods = unique(training.pretrain for training in run.trainings)
    ratios = [] if reference else [cost.saving(run, arm.name, method) for method in methods]
    return Card(
        arm=arm.name,
        look=look,
        reference=reference,
        share=wording.percent(arm.share),
        kept=f"{quantities.count(arm.kept)} of {quantities.count(arm.slices, 'slice')}",
        cost=_cost([ratio for ratio in ratios if np.isfinite(ratio)]),
        trainings=(
            *(cost.sentence(run, arm.name, method) for method in methods if cost.trainings_of(run, arm.name, method)),
            *_failures(run, arm.name),
        ),
        lines=tuple(_lines(run, arm.name)),
    )


def _failures(run: Run, arm: str) -> Iterable[str]:
    """A sentence on each pre-training that failed."""
    for failure in run.facts.get("failures", []):
        name, *which = failure["item"].split("/")
        if (failure["stage"], name) == ("pretrain", arm):
            yield f"Pre-training failed: {', '.join(which)}."


def _cost(ratios: list[float]) -> tuple[str, str]:
    """The reference's cost over an arm's, by method, in two words for the card; nothing where it is unknown."""
    if not ratios:
        return "", ""
    if set(ratios) == {1.0}:
        return "Same", "cost of pre-training"
    mean = float(np.mean(ratios))
    return (wording.times(mean), "less to pre-train") if mean > 1 else (wording.times(1 / mean), "more to pre-train")


def _lines(run: Run, arm: str) -> Iterable[Line]:
    metric = main_metric(run.scores)
    own = [row for row in run.comparisons if (row.arm, row.metric) == (arm, metric)]
    compared = {row.place: row for row in own if row.reference == run.reference}
    for row in run.scores:
        if row.pooled and (row.arm, row.metric) == (arm, metric):
            here = [other for other in own if other.place == row.place]
            same_size = tuple(_against(other) for other in here if other.contrast == "same size")
            bought = tuple(_bought(other) for other in here if other.reference in run.baselines)
            yield _line(naming.title(run, row.place), row, compared.get(row.place), same_size, bought)


def _bought(row: ComparisonRow) -> str:
    span = wording.interval(row.ci_low, row.ci_high, signed=True)
    gain = f"Pre-training scored {verdict.aside(row.difference)} “{row.reference}” (difference {span}): "
    return gain + f"{verdict.verdict(row)}, adjusted {wording.p_statement(row.p_adjusted)}"


def _line(
    where: str, row: ScoreRow, comparison: ComparisonRow | None, same_size: tuple[str, ...], bought: tuple[str, ...]
) -> Line:
    score = f"{wording.metric(row.metric)} {wording.score(row.value)} ({wording.interval(row.ci_low, row.ci_high)})"
    score += f", SD over seeds {wording.score(row.sd_seeds)}" if np.isfinite(row.sd_seeds) else ""
    if comparison is None:
        return Line("", where, score, "", same_size, bought)
    return Line(verdict.verdict(comparison), where, score, _against(comparison, shown=False), same_size, bought)


def _against(row: ComparisonRow, *, shown: bool = True) -> str:
    span = wording.interval(row.ci_low, row.ci_high, signed=True)
    text = f"{wording.difference(row.difference)} against “{row.reference}” ({span}), adjusted "
    return text + wording.p_statement(row.p_adjusted) + (f": {verdict.verdict(row)}" if shown else "")
