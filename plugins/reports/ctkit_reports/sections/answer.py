"""The first section: per arm in plain words what it kept, what it saved and how it scored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ctkit import ComparisonRow, Run, RunArm, ScoreRow, quantities
from ctkit.contracts import main_metric
from ctkit_reports import naming, verdict, wording
from ctkit_reports.elements import Looks, unique
from ctkit_reports.figures import Look


@dataclass(frozen=True)
class Line:
    """One score of an arm in words, and what it shows against the reference."""

    verdict: str
    where: str
    score: str
    against: str
    bought: tuple[str, ...]  #: by pre-training, over each baseline


@dataclass(frozen=True)
class Card:
    """One arm's part of the answer."""

    arm: str
    look: Look
    reference: bool
    share: str
    kept: str
    speed: str  #: "5.4 ×", or ""
    times: tuple[str, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Answer:
    """The first section."""

    headline: str
    gains: tuple[str, ...]  #: over the baselines
    cards: tuple[Card, ...]
    cautions: tuple[str, ...]


def answer(run: Run, looks: Looks) -> Answer:
    """The answer: per arm what it kept, what it saved and how it scored."""
    order = sorted(run.arms, key=lambda arm: arm.name != run.reference)
    cards = tuple(_card(run, arm, looks[arm.name]) for arm in order)
    return Answer(verdict.headline(run), tuple(verdict.gains(run)), cards, tuple(verdict.cautions(run)))


def _card(run: Run, arm: RunArm, look: Look) -> Card:
    reference = arm.name == run.reference
    methods = unique(training.pretrain for training in run.trainings)
    ratios = [] if reference else [verdict.speed_up(run, arm.name, method) for method in methods]
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    return Card(
        arm=arm.name,
        look=look,
        reference=reference,
        share=wording.percent(arm.share),
        kept=f"{quantities.count(arm.kept)} of {quantities.count(arm.slices, 'slice')}",
        speed=wording.times(float(np.mean(known))) if known else "",
        times=(
            *(_time_sentence(run, arm.name, method) for method in methods if _trained(run, arm.name, method)),
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


def _trained(run: Run, arm: str, method: str) -> bool:
    return any((training.arm, training.pretrain) == (arm, method) for training in run.trainings)


def _time_sentence(run: Run, arm: str, method: str) -> str:
    own = wording.duration(verdict.seconds(run, arm, method))
    steps = np.mean([t.facts["steps"] for t in run.trainings if (t.arm, t.pretrain) == (arm, method)])
    sentence = f"Pre-training with {method} took {own} ({quantities.count(float(steps), 'step')})"
    if arm == run.reference or run.reference is None or not _trained(run, run.reference, method):
        return f"{sentence}."
    return f"{sentence} instead of {wording.duration(verdict.seconds(run, run.reference, method))}."


def _lines(run: Run, arm: str) -> Iterable[Line]:
    metric = main_metric(run.scores)
    own = [row for row in run.comparisons if (row.arm, row.metric) == (arm, metric)]
    compared = {row.place: row for row in own if row.reference == run.reference}
    for row in run.scores:
        if row.pooled and (row.arm, row.metric) == (arm, metric):
            over = [other for other in own if other.place == row.place and other.reference in run.baselines]
            yield _line(naming.title(run, row.place), row, compared.get(row.place), tuple(map(_bought, over)))


def _bought(row: ComparisonRow) -> str:
    span = wording.interval(row.ci_low, row.ci_high, signed=True)
    gain = f"Pre-training scored {verdict.aside(row.difference)} “{row.reference}” (difference {span}): "
    return gain + f"{verdict.verdict(row)}, adjusted {wording.p_statement(row.p_adjusted)}"


def _line(where: str, row: ScoreRow, comparison: ComparisonRow | None, bought: tuple[str, ...]) -> Line:
    score = f"{wording.metric(row.metric)} {wording.score(row.value)} ({wording.interval(row.ci_low, row.ci_high)})"
    score += f", SD over seeds {wording.score(row.sd_seeds)}" if np.isfinite(row.sd_seeds) else ""
    if comparison is None:
        return Line("", where, score, "", bought)
    change = wording.difference(comparison.difference)
    span = wording.interval(comparison.ci_low, comparison.ci_high, signed=True)
    p = wording.p_statement(comparison.p_adjusted)
    against = f"{change} against “{comparison.reference}” ({span}), adjusted {p}"
    return Line(verdict.verdict(comparison), where, score, against, bought)
