"""Scores, tests and diagnostic plots of each task, protocol and share of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctkit.contracts import Floats, Predictions
from ctkit.report import diagnostics, figures, verdict, wording
from ctkit.report.elements import Cell, Looks, Matrix, Plot, Table, grouped, number, table, text, unique
from ctkit.report.figures import Curve
from ctkit.report.reading import Compared, Run, Scored


@dataclass(frozen=True)
class TaskScores:
    """One task under one protocol with one share of the labels."""

    title: str
    scores: Table | None
    seeds: Table | None
    comparisons: Table | None  #: by the main metric
    other_comparisons: Table | None
    plots: tuple[Plot, ...]
    confusions: tuple[tuple[str, tuple[Matrix, ...]], ...]  #: by method
    mistakes: Table | None
    note: str
    notes: tuple[tuple[str, str], ...]


def tasks(run: Run, looks: Looks) -> list[TaskScores]:
    """Scores, tests and diagnostic plots for each task, protocol and share of the labels."""
    places = dict.fromkeys((row.place.task, row.place.protocol, row.place.labels) for row in run.scores)
    return [_task(run, looks, *place) for place in places]


def _task(run: Run, looks: Looks, task: str, protocol: str, labels: float) -> TaskScores:
    def here(row: Scored | Compared) -> bool:
        return (row.place.task, row.place.protocol, row.place.labels) == (task, protocol, labels)

    scores, compared = list(filter(here, run.scores)), list(filter(here, run.comparisons))
    predicted: dict[str, dict[str, list[Predictions]]] = {}
    for file in run.predictions:
        if (file.task, file.protocol, file.labels) == (task, protocol, labels):
            predicted.setdefault(file.pretrain, {}).setdefault(file.arm, []).append(file.read())
    classes = next((len(runs[0].classes) for arms in predicted.values() for runs in arms.values()), 0)
    main = verdict.main_metric(compared)
    against = wording.listing(unique(row.reference for row in compared))
    names = {method: f", {method}" if len(predicted) > 1 else "" for method in predicted}
    title = f"{task}, {protocol}, {wording.labels(labels)}"
    return TaskScores(
        title,
        _score_table("Scores over all seeds, with 95 % intervals", [row for row in scores if row.pooled], looks),
        _score_table("Scores of each seed, with 95 % intervals", [row for row in scores if not row.pooled], looks),
        _comparison_table(f"Differences from {against}", [row for row in compared if row.metric == main], looks),
        _comparison_table("Differences in other metrics", [row for row in compared if row.metric != main], looks),
        tuple(plot for method, arms in predicted.items() for plot in _plots(names[method], arms, looks)),
        tuple(
            (method, tuple(_confusion(arm, runs) for arm, runs in arms.items())) for method, arms in predicted.items()
        ),
        _mistakes(predicted, looks),
        _note(predicted, classes),
        grouped((note, ", ".join(item[:3])) for item, note in run.notes if item[3:] == (task, protocol)),
    )


def _score_table(caption: str, rows: Sequence[Scored], looks: Looks) -> Table | None:
    metrics = unique(row.metric for row in rows)
    arms = unique(row.arm for row in rows)
    lines: dict[tuple[str, str, str], dict[str, Scored]] = {}
    for row in sorted(rows, key=lambda row: (row.place.pretrain, arms.index(row.arm))):
        lines.setdefault((row.arm, row.place.pretrain, row.seed), {})[row.metric] = row
    cells = [
        [looks.cell(arm), text(pretrain), text("" if seed == "all" else seed)]
        + [_score_cell(found.get(metric)) for metric in metrics]
        for (arm, pretrain, seed), found in lines.items()
    ]
    columns = ("Arm", "Method", "Seed", *(wording.metric(metric) for metric in metrics))
    return table(caption, columns, cells)


def _score_cell(row: Scored | None) -> Cell:
    if row is None:
        return number(float("nan"))
    return number(row.value, wording.score(row.value), wording.interval(row.low, row.high))


def _comparison_table(caption: str, rows: Sequence[Compared], looks: Looks) -> Table | None:
    cells = [
        [
            looks.cell(row.arm),
            text(row.place.pretrain),
            text(wording.metric(row.metric)),
            number(row.difference, wording.difference(row.difference)),
            text(wording.interval(row.low, row.high, signed=True)),
            number(row.p, wording.p_value(row.p)),
            number(row.p_adjusted, wording.p_value(row.p_adjusted)),
            text(verdict.verdict(row), verdict.verdict(row).split()[0]),
            text(row.test),
        ]
        for row in rows
    ]
    columns = ("Arm", "Method", "Metric", "Difference", "95 % interval", "p", "Adjusted p", "Shown", "Test")
    return table(caption, columns, cells)


def _plots(method: str, arms: Mapping[str, Sequence[Predictions]], looks: Looks) -> list[Plot]:
    return [_roc(method, arms, looks), _calibration(method, arms, looks)]


def _roc(method: str, arms: Mapping[str, Sequence[Predictions]], looks: Looks) -> Plot:
    grid = diagnostics.FALSE_POSITIVE_RATES
    lines = [Curve(looks[arm], grid, diagnostics.mean_roc(runs)) for arm, runs in arms.items()]
    svg = figures.unit_square(f"ROC{method}", "false positive rate", "true positive rate", lines)
    values = "; ".join(
        f"{arm} {wording.score(float(line.y[np.searchsorted(grid, 0.1)]))}"
        for arm, line in zip(arms, lines, strict=True)
    )
    return Plot(svg, f"ROC curves{method}. True positive rate at a false positive rate of 0.1: {values}.")


def _note(predicted: Mapping[str, Mapping[str, Sequence[Predictions]]], classes: int) -> str:
    if not classes:
        return ""
    first = next(runs[0] for arms in predicted.values() for runs in arms.values())
    images = wording.count(len(first.labels), "test image")
    if classes == 2:
        return (
            f"{images}; positive: {first.classes[diagnostics.positive_class(first)]}. ROC curves are means over runs."
        )
    return f"{images}, {classes} classes. ROC curves are means over runs and over each class against the rest."


def _calibration(method: str, arms: Mapping[str, Sequence[Predictions]], looks: Looks) -> Plot:
    lines = [Curve(looks[arm], *diagnostics.calibration(runs)) for arm, runs in arms.items()]
    svg = figures.unit_square(f"Calibration{method}", "predicted probability", "observed share", lines, markers=True)
    gaps = "; ".join(
        f"{arm} {wording.score(float(np.abs(line.x - line.y).mean()))}" for arm, line in zip(arms, lines, strict=True)
    )
    return Plot(svg, f"Calibration{method}. Mean distance from the diagonal: {gaps}.")


def _confusion(arm: str, runs: Sequence[Predictions]) -> Matrix:
    counts = diagnostics.confusion(runs)
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = tuple(
        tuple((wording.count(int(n)), float(share)) for n, share in zip(*rows, strict=True))
        for rows in zip(counts, shares, strict=True)
    )
    return Matrix(arm, runs[0].classes, cells, ("true", "predicted"))


def _mistakes(predicted: Mapping[str, Mapping[str, Sequence[Predictions]]], looks: Looks) -> Table | None:
    rows = [
        [
            looks.cell(arm),
            text(method),
            number(mistake.row),
            text(mistake.true),
            text(mistake.predicted),
            number(mistake.probability, wording.score(mistake.probability)),
        ]
        for method, arms in predicted.items()
        for arm, runs in arms.items()
        for mistake in diagnostics.worst_mistakes(runs)
    ]
    columns = ("Arm", "Method", "Row of the predictions", "True class", "Predicted", "Probability")
    return table("The most confident mistakes, by mean prediction", columns, rows)
