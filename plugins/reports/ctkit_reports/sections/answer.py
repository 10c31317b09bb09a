"""The first section: per arm in plain words what it kept, what it saved and how it scored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ctkit import ComparisonRow, Run, RunArm, ScoreRow, quantities
from ctkit.contracts import main_metric
from ctkit_reports import cost, question, verdict, wording
from ctkit_reports.elements import Looks, title, unique
from ctkit_reports.figures import Look


def answer(run: Run, looks: Looks) -> dict[str, Any]:
    """The answer: per arm what it kept, what it saved and how it scored."""
    order = sorted(run.arms, key=lambda arm: arm.name != run.reference)
    return {
        "headline": question.headline(run),
        "further": question.further(run),
        "gains": verdict.gains(run),  # over the baselines
        "cards": [_card(run, arm, looks[arm.name]) for arm in order],
        "cautions": verdict.cautions(run),
    }


def _card(run: Run, arm: RunArm, look: Look) -> dict[str, Any]:
    reference = arm.name == run.reference
    methods = unique(training.pretrain for training in run.trainings)
    ratios = [] if reference else [cost.saving(run, arm.name, method) for method in methods]
    trained = [cost.sentence(run, arm.name, method) for method in methods if cost.trainings_of(run, arm.name, method)]
    return {
        "arm": arm.name,
        "look": look,
        "reference": reference,
        "share": wording.percent(arm.share),
        "kept": f"{quantities.count(arm.kept)} of {quantities.count(arm.slices, 'slice')}",
        "cost": _cost([ratio for ratio in ratios if np.isfinite(ratio)]),
        "trainings": [*trained, *_failures(run, arm.name)],
        "lines": list(_lines(run, arm.name)),
    }


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


def _lines(run: Run, arm: str) -> Iterable[dict[str, Any]]:
    """Each score of an arm in words, and what it shows against the reference, arms of its size and the baselines."""
    metric = main_metric(run.score_rows)
    own = [row for row in run.comparison_rows if (row.arm, row.metric) == (arm, metric)]
    compared = {row.place: row for row in own if row.reference == run.reference}
    for row in run.score_rows:
        if row.pooled and (row.arm, row.metric) == (arm, metric):
            here, reference = [other for other in own if other.place == row.place], compared.get(row.place)
            yield {
                "where": title(run, row.place),
                "score": _score(row),
                "verdict": verdict.verdict(reference) if reference else "",
                "against": _against(reference, shown=False) if reference else "",
                "same_size": [_against(other) for other in here if other.contrast == "same size"],
                "bought": [_bought(other) for other in here if other.reference in run.baselines],
            }


def _bought(row: ComparisonRow) -> str:
    span = wording.interval(row.ci_low, row.ci_high, signed=True)
    gain = f"Pre-training scored {verdict.aside(row.difference)} “{row.reference}” (difference {span}): "
    return gain + f"{verdict.verdict(row)}, adjusted {wording.p_statement(row.p_adjusted)}"


def _score(row: ScoreRow) -> str:
    score = f"{wording.metric(row.metric)} {wording.score(row.value)} ({wording.interval(row.ci_low, row.ci_high)})"
    return score + (f", SD over seeds {wording.score(row.sd_seeds)}" if np.isfinite(row.sd_seeds) else "")


def _against(row: ComparisonRow, *, shown: bool = True) -> str:
    span = wording.interval(row.ci_low, row.ci_high, signed=True)
    text = f"{wording.difference(row.difference)} against “{row.reference}” ({span}), adjusted "
    return text + wording.p_statement(row.p_adjusted) + (f": {verdict.verdict(row)}" if shown else "")
