"""The first section: the answer in words and as one picture, what its words mean, and the scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import starmap
from typing import Any

import numpy as np

from ctkit import Place, Run, ScoreRow, quantities
from ctkit_reports import cost, figures, question, verdict, wording
from ctkit_reports.elements import Cell, Looks, Plot, Table, main_rows, metrics, number, table, title, unique
from ctkit_reports.figures import Point

PLOTS = 4  #: on the first screen

#: What words of the report mean, in one line each; of protocols by their plugins' names, where a run has them.
TERMS = {
    "Arm": "a way to choose slices. Each arm pre-trains its own network, on its slices alone.",
    "linear": "the network stays as it is; a linear classifier learns the task from its features.",
    "k-NN": "the network stays as it is; an image gets the class of the training images with the nearest features.",
    "finetune": "the whole network is trained further on the labels of the task.",
    "segment": "a decoder is trained on the network's features to outline structures.",
    "untrained": "the same network with random weights. A score above it is what pre-training gained.",
    "AUC": "1 is perfect, 0.5 is chance: how often an image of a class scores higher for it than one of another.",
    "Dice": "1 is perfect overlap of the outline and the truth, 0 is none.",
    "Interval": "95 % interval: of such intervals, 95 in 100 hold the true value. Wide ones mean few test images.",
    "No difference shown": "the numbers allow both: a small difference, or none. It is not proof of equality.",
}


def answer(run: Run, looks: Looks) -> dict[str, Any]:
    """The answer in words and as a picture, what its words mean, what speaks for caution, and the scores."""
    plots = list(_plots(run, looks))
    plain, exact = question.plain(run), question.headline(run)
    return {
        "headline": plain,
        "by_arm": question.by_arm(run),
        "further": [*([exact] if plain != [exact] else []), *question.further(run), *verdict.gains(run)],
        "legend": looks.legend(unique(row.arm for row in _pooled(run))),
        "plots": plots[:PLOTS],
        "more": plots[PLOTS:],
        "terms": list(_terms(run)),
        "cautions": verdict.cautions(run),
        "scores": _scores(run, looks),
    }


def _terms(run: Run) -> Iterable[tuple[str, str]]:
    """The words that the report of a run has, and what they mean."""
    said = json.dumps(
        [run.pipeline.get("task"), run.pipeline.get("baseline"), [row.place.protocol for row in run.score_rows]]
    )
    asked = {"linear": "linear", "k-NN": "knn", "finetune": "finetune", "segment": "segment", "untrained": "untrained"}
    known = {"Arm"} | {term for term, word in asked.items() if word in said}
    known |= {"Interval"} if run.score_rows else set()
    known |= {"No difference shown"} & {verdict.verdict(row).capitalize() for row in run.comparison_rows}
    known |= {term for term in ("AUC", "Dice") if any(row.metric == term.lower() for row in _pooled(run))}
    return ((term, meaning) for term, meaning in TERMS.items() if term in known)


def _pooled(run: Run) -> list[ScoreRow]:
    """Scores over all seeds, in the main metric of each task and protocol."""
    return [row for row in main_rows(run.score_rows) if row.pooled]


def _plots(run: Run, looks: Looks) -> Iterable[Plot]:
    """Score against slices kept, for each task and protocol that scores arms."""
    pooled = _pooled(run)
    for place in dict.fromkeys(row.place for row in pooled if run.arm(row.arm) and np.isfinite(row.value)):
        rows = [row for row in pooled if row.place in (place, place._replace(pretrain=""))]
        kept = {row.arm: arm.kept if (arm := run.arm(row.arm)) else np.nan for row in rows}
        points = [Point(looks[row.arm], kept[row.arm], row.value, row.ci_low, row.ci_high, row.arm) for row in rows]
        name, score = title(run, place), metrics(rows)
        values = (
            f"{row.arm} {wording.score(row.value)}"
            + (f" with {quantities.count(kept[row.arm], 'slice')}" if np.isfinite(kept[row.arm]) else "")
            for row in rows
        )
        svg = figures.scores_against_slices(name, score, points)
        yield Plot(svg, f"{score} against slices kept, {name}: {'; '.join(values)}.")


def _scores(run: Run, looks: Looks) -> Table | None:
    """A row for each arm and method: slices kept, cost, and the main metric of every task and protocol."""
    pooled = _pooled(run)
    places = list(dict.fromkeys(row.place._replace(pretrain="") for row in pooled))
    several = len({row.metric for row in pooled}) > 1
    names = {row.place._replace(pretrain=""): [wording.metric(row.metric)] for row in pooled if several}
    found = {(row.arm, row.place.pretrain, row.place._replace(pretrain="")): row for row in pooled}
    order = {name: rank for rank, name in enumerate([*(arm.name for arm in run.arms), *run.baselines])}
    lines = sorted(dict.fromkeys((row.arm, row.place.pretrain) for row in pooled), key=lambda line: order[line[0]])
    shown = {
        (row.arm, row.place): verdict.verdict(row)
        for row in main_rows(run.comparison_rows)
        if row.reference == run.reference
    }

    def row(arm: str, method: str) -> Mapping[str, Cell]:
        chosen = run.arm(arm)
        cells = {
            "Arm": looks.cell(arm),
            "Method": Cell(method or wording.NOTHING, method),
            "Slices kept": number(
                chosen.kept if chosen else None, quantities.count, wording.percent(chosen.share) if chosen else ""
            ),
            "Cost": number(1 / cost.saving(run, arm, method), wording.percent),
        }
        return cells | {
            ", ".join([title(run, place), *names.get(place, [])]): _score(found.get((arm, method, place)), shown)
            for place in places
        }

    return table(f"{metrics(pooled)} of each arm, over all seeds", list(starmap(row, lines)))


def _score(row: ScoreRow | None, shown: Mapping[tuple[str, Place], str]) -> Cell:
    if row is None:
        return number(None)
    tone = shown.get((row.arm, row.place), "")
    span = wording.interval(row.ci_low, row.ci_high)
    return Cell(wording.score(row.value), row.value, span, tone if tone in ("better", "worse") else "")
