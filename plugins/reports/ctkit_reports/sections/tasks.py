"""Scores, tests and diagnostic plots of each task, protocol and share of the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit import ComparisonRow, Run, RunPredictions, ScoreRow, quantities
from ctkit.contracts import Floats, Mistake, Predictions, main_metric, worst_mistakes
from ctkit_reports import diagnostics, figures, pictures, verdict, wording
from ctkit_reports.elements import (
    Cell,
    Looks,
    Matrix,
    Plot,
    Table,
    by,
    grouped,
    main_rows,
    metrics,
    number,
    table,
    text,
    title,
    unique,
)
from ctkit_reports.figures import Curve, Strip

MOST_PICTURES = 12  #: of mistakes, for each task, protocol and share of the labels

ByArm = Mapping[str, Sequence[Predictions]]
ByMethod = Mapping[str, ByArm]


def tasks(run: Run, looks: Looks) -> dict[str, Any]:
    """All differences and their tests; scores and plots for each task, protocol and share of the labels."""
    places = dict.fromkeys((row.place.task, row.place.protocol, row.place.labels) for row in run.score_rows)
    if not places:
        return {}
    first = {place[:2]: place for place in reversed(places)}
    main = main_rows(run.comparison_rows)
    others = [row for row in run.comparison_rows if row not in main]
    return {
        "differences": _comparison_table(run, f"All differences in {metrics(main)}", main, looks),
        "others": _comparison_table(run, "Differences in other metrics", others, looks),
        "places": [_task(run, looks, *place, with_curve=place in first.values()) for place in places],
    }


def _task(run: Run, looks: Looks, task: str, protocol: str, labels: float, *, with_curve: bool) -> dict[str, Any]:
    """One task under one protocol with one share of the labels; with the first of several shares the curve over all."""
    scores = [r for r in run.score_rows if (r.place.task, r.place.protocol, r.place.labels) == (task, protocol, labels)]
    files = [file for file in run.predictions if (file.task, file.protocol, file.labels) == (task, protocol, labels)]
    predicted = _predictions(files)
    main = main_metric(scores)
    pooled = [row for row in scores if row.pooled]
    return {
        "title": f"{task}, {protocol}, {wording.labels(labels)}",
        "label_curve": _label_curve(run, looks, task, protocol) if with_curve else None,
        "scores": _score_table("Scores over all seeds, with 95 % intervals", pooled, looks),
        "points": _points([row for row in scores if row.metric == main], looks),
        "spread": _spread_table([row for row in pooled if np.isfinite([row.sd_seeds, row.sd_repeats]).any()], looks),
        "seeds": _score_table(
            "Scores of each seed and repeat, with 95 % intervals", [s for s in scores if not s.pooled], looks
        ),
        "rocs": list(_plots(_roc, predicted, looks)),
        "calibrations": list(_plots(_calibration, predicted, looks)),
        "confusions": [(method, list(starmap(_confusion, arms.items()))) for method, arms in predicted.items()],
        "pictures": (shown := list(_pictures(predicted, run.mistakes.get(task, {}) if run.images else {}))),
        "mistakes": None if shown else _mistakes(predicted, looks),
        "test_images": _test_images(predicted),
        "notes": grouped(((note, _name(file)) for file in files for note in _notes(file)), len(files)),
    }


def _name(file: RunPredictions) -> str:
    """What a reader knows an evaluation by."""
    return ", ".join(filter(None, (file.arm, file.pretrain, f"seed {file.seed}", f"repeat {file.repeat}")))


def _predictions(files: Iterable[RunPredictions]) -> ByMethod:
    """Probabilities by method and arm; the baselines stand beside the arms of every method."""
    predicted: dict[str, dict[str, list[Predictions]]] = {}
    for file in files:
        if not (found := file.read()).measures:
            predicted.setdefault(file.pretrain, {}).setdefault(file.arm, []).append(found)
    baselines = predicted.pop("", {})
    if not predicted and baselines:
        return {"": baselines}
    return {method: arms | baselines for method, arms in predicted.items()}


def _notes(file: RunPredictions) -> Iterable[str]:
    return (*file.facts.get("notes", []), *file.facts.get("warnings", []))


def _score_table(caption: str, rows: Sequence[ScoreRow], looks: Looks) -> Table | None:
    metrics = unique(row.metric for row in rows)
    arms = unique(row.arm for row in rows)
    lines: dict[tuple[str, str, str, str], dict[str, ScoreRow]] = {}
    for row in sorted(rows, key=lambda row: (not row.place.pretrain, row.place.pretrain, arms.index(row.arm))):
        lines.setdefault((row.arm, row.place.pretrain, row.seed, row.repeat), {})[row.metric] = row
    cells = [
        {
            "Arm": looks.cell(arm),
            "Method": text(pretrain),
            "Seed": text(seed.removeprefix("all")),
            "Repeat": text(repeat.removeprefix("all")),
            **{metric: _score_cell(found.get(metric)) for metric in metrics},
        }
        for (arm, pretrain, seed, repeat), found in lines.items()
    ]
    return table(caption, cells, lambda column: wording.metric(column) if column in metrics else column)


def _spread_table(rows: Sequence[ScoreRow], looks: Looks) -> Table | None:
    cells = [
        {
            "Arm": looks.cell(row.arm),
            "Method": text(row.place.pretrain),
            "Metric": text(wording.metric(row.metric)),
            "Mean": number(row.value, wording.score),
            "SD over seeds": number(row.sd_seeds, wording.score),
            "SD over repeats": number(row.sd_repeats, wording.score),
        }
        for row in rows
    ]
    return table("Spread: standard deviations over seeds of pre-training and over repeats of the evaluation", cells)


def _points(rows: Sequence[ScoreRow], looks: Looks) -> Plot | None:
    """The main metric of every single run, and the mean with its interval."""
    pooled = [row for row in rows if row.pooled]
    methods = {row.place.pretrain for row in pooled} - {""}
    strips = [
        Strip(
            " ".join(filter(None, (row.arm, row.place.pretrain if len(methods) > 1 else ""))),
            looks[row.arm],
            _single_values(rows, row),
            (row.value, row.ci_low, row.ci_high),
        )
        for row in pooled
    ]
    if not strips or max(len(strip.values) for strip in strips) < 2:
        return None
    metric = wording.metric(rows[0].metric)
    values = "; ".join(f"{strip.name} {', '.join(map(wording.score, strip.values))}" for strip in strips)
    return Plot(figures.strips(metric, strips), f"{metric} of each seed and repeat: {values}.")


def _label_curve(run: Run, looks: Looks, task: str, protocol: str) -> Plot | None:
    """The main metric over shares of the labels, where there are several."""
    rows = [row for row in run.score_rows if row.pooled and (row.place.task, row.place.protocol) == (task, protocol)]
    metric = main_metric(rows) or ""
    ordered = sorted((row for row in rows if row.metric == metric), key=lambda row: row.place.labels)
    by_arm = by(lambda row: (row.arm, row.place.pretrain), ordered)
    if len({row.place.labels for row in rows}) < 2:
        return None
    lines = [
        (
            Curve(looks[arm], np.array([r.place.labels for r in own]), np.array([r.value for r in own]), arm),
            np.array([[row.ci_low, row.ci_high] for row in own]),
        )
        for (arm, _), own in by_arm.items()
    ]
    title = f"{wording.metric(metric)} with fewer labels"
    values = "; ".join(
        f"{' '.join(filter(None, key))} "
        + ", ".join(f"{wording.score(r.value)} with {wording.labels(r.place.labels)}" for r in own)
        for key, own in by_arm.items()
    )
    return Plot(figures.label_curve(title, wording.metric(metric), lines), f"{title}: {values}.")


def _single_values(rows: Sequence[ScoreRow], pooled: ScoreRow) -> Floats:
    """Values (n,) of the repeats of every seed, or of the seeds where there is one repeat each."""
    own = [row for row in rows if (row.arm, row.place) == (pooled.arm, pooled.place) and not row.pooled]
    repeats = [row.value for row in own if row.repeat != "all"]
    return np.array(repeats or [row.value for row in own])


def _score_cell(row: ScoreRow | None) -> Cell:
    if row is None:
        return number(float("nan"))
    return number(row.value, wording.score, wording.interval(row.ci_low, row.ci_high))


def _comparison_table(run: Run, caption: str, rows: Sequence[ComparisonRow], looks: Looks) -> Table | None:
    several = len({row.metric for row in rows}) > 1
    cells = [
        {
            "Arm": looks.cell(row.arm),
            "Compared with": text(row.reference),
            "Task": text(title(run, row.place._replace(pretrain=""))),
            "Method": text(row.place.pretrain),
            "Metric": text(wording.metric(row.metric) if several else ""),
            "Difference": number(
                row.difference, wording.difference, wording.interval(row.ci_low, row.ci_high, signed=True)
            ),
            "Adjusted p": number(row.p_adjusted, wording.p_value, wording.p_statement(row.p)),
            "Shown": text(verdict.verdict(row), verdict.verdict(row).split()[0]),
            "Test": text(row.test),
        }
        for row in rows
    ]
    return table(f"{caption}; below them 95 % intervals, and p before adjustment", cells)


def _plots(plot: Callable[[str, ByArm, Looks], Plot], predicted: ByMethod, looks: Looks) -> Iterable[Plot]:
    for method, arms in predicted.items():
        yield plot(f", {method}" if len(predicted) > 1 else "", arms, looks)


def _roc(method: str, arms: ByArm, looks: Looks) -> Plot:
    grid = diagnostics.FALSE_POSITIVE_RATES
    lines = {arm: Curve(looks[arm], grid, diagnostics.mean_roc(runs)) for arm, runs in arms.items()}
    svg = figures.unit_square(f"ROC{method}", "false positive rate", "true positive rate", list(lines.values()))
    at = int(np.searchsorted(grid, 0.1))
    values = "; ".join(f"{arm} {wording.score(float(line.y[at]))}" for arm, line in lines.items())
    return Plot(svg, f"ROC curves{method}. True positive rate at a false positive rate of 0.1: {values}.")


def _calibration(method: str, arms: ByArm, looks: Looks) -> Plot:
    lines = {arm: Curve(looks[arm], *diagnostics.calibration(runs), arm) for arm, runs in arms.items()}
    svg = figures.unit_square(
        f"Calibration{method}", "predicted probability", "observed share", list(lines.values()), markers=True
    )
    gaps = "; ".join(f"{arm} {wording.score(float(np.abs(line.x - line.y).mean()))}" for arm, line in lines.items())
    return Plot(svg, f"Calibration{method}. Mean distance from the diagonal: {gaps}.")


def _test_images(predicted: ByMethod) -> str:
    """How many images were predicted, and what the plots take for positive."""
    first = next((runs[0] for arms in predicted.values() for runs in arms.values()), None)
    if first is None:
        return ""
    images = quantities.count(len(first.labels), "test image")
    if len(first.classes) == 2:
        positive = first.classes[diagnostics.positive_class(first)]
        return f"{images}; positive: {positive}. ROC curves are means over runs."
    means = "ROC curves are means over runs and over each class against the rest."
    return f"{images}, {len(first.classes)} classes. {means}"


def _confusion(arm: str, runs: Sequence[Predictions]) -> Matrix:
    counts = diagnostics.confusion(runs)
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = tuple(
        tuple((quantities.count(int(n)), float(share)) for n, share in zip(*rows, strict=True))
        for rows in zip(counts, shares, strict=True)
    )
    return Matrix(arm, runs[0].classes, cells, ("true", "predicted"))


def _mistakes(predicted: ByMethod, looks: Looks) -> Table | None:
    rows = [
        {
            "Arm": looks.cell(arm),
            "Method": text(method),
            "Row of the predictions": number(mistake.row),
            "True class": text(mistake.true),
            "Predicted": text(mistake.predicted),
            "Probability": number(mistake.probability, wording.score),
        }
        for method, arm, mistake in _worst(predicted)
    ]
    return table("The most confident mistakes, by mean prediction", rows)


def _worst(predicted: ByMethod) -> Iterable[tuple[str, str, Mistake]]:
    for method, arms in predicted.items():
        for arm, runs in arms.items():
            yield from ((method, arm, mistake) for mistake in worst_mistakes(runs))


def _pictures(predicted: ByMethod, images: Mapping[int, NDArray[np.uint8]]) -> Iterable[tuple[str, str, str]]:
    """Each image once, the one that most arms take for something else first."""
    takers: dict[int, list[tuple[str, Mistake]]] = {}
    for method, arm, mistake in _worst(predicted):
        name = f"{arm}, {method}" if len(predicted) > 1 else arm
        takers.setdefault(mistake.row, []).append((name, mistake))
    for row, taken in sorted(takers.items(), key=lambda item: -len(item[1]))[:MOST_PICTURES]:
        if row in images:
            by = (f"{name} as {mistake.predicted} ({wording.index(mistake.probability)})" for name, mistake in taken)
            yield pictures.as_uri(images[row]), f"Row {row}: {taken[0][1].true}", f"taken by {'; '.join(by)}"
