"""Compare: from predictions to scores with intervals, and to differences from the reference arm with p values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ctkit.contracts import Difference, Score, main_metric
from ctkit.contracts.judge import Judge
from ctkit.session import Session
from ctkit.stages.contrasts import BASELINE, Contrast, contrasts
from ctkit.stages.data import Data
from ctkit.stages.evaluate import predictions_of
from ctkit.stages.jobs import Evaluated
from ctkit.storage import address
from ctkit.storage.records import ComparisonRow, Place, ScoreRow, write_rows

Spread = tuple[float, float]  # standard deviations over seeds and over repeats
_ALONE: Spread = (math.nan, math.nan)


@dataclass(frozen=True)
class Cell:
    """What is scored over all seeds: an arm, a pre-training, a task, a protocol and a share of the labels."""

    arm: str  #: or a baseline
    place: Place

    @property
    def item(self) -> str:
        """What it is called in logs."""
        return "/".join(filter(None, (self.arm, *self.place[:3])))


def cell_of(evaluated: Evaluated) -> Cell:
    """Return the row of the table of results that an evaluation belongs to."""
    job, plan = evaluated.job, evaluated.plan
    return Cell(job.arm, Place(job.pretrain, plan.id, plan.protocol.entry.name, evaluated.labels))


def score(session: Session, data: Data) -> None:
    """Write ``results.csv``: each repeat where there are several, each seed, and all seeds pooled."""
    rows: list[ScoreRow] = []
    for cell, runs in _cells(data.predictions).items():
        with session.going_on("score", cell.item):
            rows += list(_scored(session, cell, runs))
    write_rows(session.folder.results, ScoreRow, rows)


def _scored(session: Session, cell: Cell, runs: list[Evaluated]) -> Iterator[ScoreRow]:
    by_seed = {seed: [run for run in runs if run.job.seed == seed] for seed in sorted({run.job.seed for run in runs})}
    single = {seed: [_scores(session, [run]) for run in own] for seed, own in by_seed.items()}
    for seed, own in by_seed.items():
        if runs[0].plan.repeats > 1:
            for run, scores in zip(own, single[seed], strict=True):
                yield from _rows(cell, seed, run.repeat, scores, [_ALONE] * len(scores))
        yield from _rows(cell, seed, "all", _scores(session, own), _spreads([single[seed]]))
    yield from _rows(cell, "all", "all", _scores(session, runs), _spreads(list(single.values())))


def _spreads(seeds: list[list[list[Score]]]) -> list[Spread]:
    """Spread of each metric, from the scores of every repeat of every seed."""
    metrics = range(len(seeds[0][0]))
    return [spread([[scores[metric].value for scores in repeats] for repeats in seeds]) for metric in metrics]


def spread(points: Sequence[Sequence[float]]) -> Spread:
    """Standard deviations of a score over seeds and over repeats, from its values by seed; NaN where there is one.

    Over seeds: of the means of each seed's repeats. Over repeats: the root of the mean variance inside the seeds.
    """
    inside = [float(np.var(repeats, ddof=1)) for repeats in points if len(repeats) > 1]
    over_seeds = float(np.std([np.mean(repeats) for repeats in points], ddof=1)) if len(points) > 1 else math.nan
    return over_seeds, math.sqrt(float(np.mean(inside))) if inside else math.nan


def compare(session: Session, data: Data) -> None:
    """Write ``comparisons.csv``: arms against the reference, those of their size, and baselines; p values corrected."""
    cells = _cells(data.predictions)
    rows: list[tuple[Cell, Contrast, list[Difference]]] = []
    for cell, other, contrast in _pairs(session, cells):
        with session.going_on("score", cell.item):
            rows.append((cell, contrast, _differences(session, cells[cell], cells[other])))
    families = iter(adjust([found for *_, found in rows], [contrast.primary for _, contrast, _ in rows]))
    written = (_comparison(cell, contrast, one, *next(families)) for cell, contrast, found in rows for one in found)
    write_rows(session.folder.comparisons, ComparisonRow, written)


def _pairs(session: Session, cells: Collection[Cell]) -> Iterator[tuple[Cell, Cell, Contrast]]:
    """What is compared with what, of the cells that are there."""
    pipeline = session.pipeline
    baselines = [baseline.id for baseline in pipeline.baselines]
    for contrast in contrasts(pipeline.arms, pipeline.reference, baselines):
        for cell in cells:
            if cell.arm == contrast.arm and cell.place.pretrain:
                place = cell.place._replace(pretrain="") if contrast.kind == BASELINE else cell.place
                if (other := Cell(contrast.other, place)) in cells:
                    yield cell, other, contrast


def adjust(contrasts: Sequence[Sequence[Difference]], primary: Sequence[bool]) -> list[tuple[float, str]]:
    """Adjust p values by Holm's method in two families; returns each with its family, ``primary`` or ``secondary``.

    Primary are the contrasts marked so, each in its main metric: they give the answer, and what is only looked at
    should not cost them power.
    """
    differences = [one for found in contrasts for one in found]
    mains = [mark and main_metric(found) for found, mark in zip(contrasts, primary, strict=True)]
    answers = [one.metric == main for found, main in zip(contrasts, mains, strict=True) for one in found]
    adjusted = np.empty(len(differences))
    for family in (True, False):
        members = [number for number, answer in enumerate(answers) if answer is family]
        adjusted[members] = holm([differences[number].p for number in members])
    return [(p, "primary" if answer else "secondary") for p, answer in zip(adjusted.tolist(), answers, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number by Holm's step-down method (1979); NaN stays NaN and does not count."""
    known = [number for number, p in enumerate(p_values) if not np.isnan(p)]
    adjusted = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, number in enumerate(sorted(known, key=lambda number: p_values[number])):
        largest = max(largest, min(1.0, p_values[number] * (len(known) - rank)))
        adjusted[number] = largest
    return adjusted


def _cells(done: Iterable[Evaluated]) -> dict[Cell, list[Evaluated]]:
    cells: dict[Cell, list[Evaluated]] = defaultdict(list)
    for evaluated in done:
        cells[cell_of(evaluated)].append(evaluated)
    return dict(cells)


def _scores(session: Session, runs: list[Evaluated]) -> list[Score]:
    at = address("score", runs=[run.address for run in runs])
    found = session.cache.read("scores", at, list[Score])
    if found is None:
        protocol = runs[0].plan.protocol
        with Judge(protocol.title).calling("scores"):
            found = list(protocol.build().scores([predictions_of(session, run) for run in runs]))
        session.cache.write("scores", at, found)
    return found


def _differences(session: Session, runs: list[Evaluated], reference: list[Evaluated]) -> list[Difference]:
    of = {"runs": runs, "reference": reference}
    at = address("compare", **{name: [(run.address, run.job.seed) for run in part] for name, part in of.items()})
    found = session.cache.read("comparisons", at, list[Difference])
    if found is None:
        protocol = runs[0].plan.protocol
        ours, theirs = (
            [replace(predictions_of(session, run), seed=run.job.seed) for run in part] for part in of.values()
        )
        with Judge(protocol.title).calling("compare"):
            found = list(protocol.build().compare(ours, theirs))
        session.cache.write("comparisons", at, found)
    return found


def _rows(
    cell: Cell, seed: int | str, repeat: int | str, scores: Sequence[Score], spreads: Sequence[Spread]
) -> Iterator[ScoreRow]:
    for s, apart in zip(scores, spreads, strict=True):
        yield ScoreRow(cell.arm, *cell.place, str(seed), str(repeat), s.metric, s.value, s.low, s.high, *apart)


def _comparison(cell: Cell, contrast: Contrast, d: Difference, p_adjusted: float, family: str) -> ComparisonRow:
    numbers = (d.difference, d.low, d.high, d.p, p_adjusted)
    return ComparisonRow(cell.arm, contrast.other, *cell.place, d.metric, *numbers, d.test, contrast.kind, family)
