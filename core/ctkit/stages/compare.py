"""Compare: from predictions to scores with intervals, and to differences from the reference arm with p values."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ctkit.cache import address
from ctkit.contracts import Difference, Score
from ctkit.files import write_csv, write_json
from ctkit.stages.evaluate import Evaluated, predictions_of

if TYPE_CHECKING:
    from ctkit.session import Session

RESULTS = ("arm", "pretrain", "task", "protocol", "labels", "seed", "metric", "value", "ci_low", "ci_high")
COMPARISONS = (
    *("arm", "reference", "pretrain", "task", "protocol", "labels"),
    *("metric", "difference", "ci_low", "ci_high", "p", "p_adjusted", "test"),
)


@dataclass(frozen=True)
class Cell:
    """What is scored over all seeds: an arm, a pre-training, a task, a protocol and a share of the labels."""

    arm: str
    pretrain: str
    task: str
    protocol: str
    labels: float

    @property
    def columns(self) -> tuple[Any, ...]:
        """The cell as the result files show it."""
        return (self.arm, self.pretrain, self.task, self.protocol, f"{self.labels:g}")


def cell_of(evaluated: Evaluated) -> Cell:
    """Return the row of the table of results that an evaluation belongs to."""
    job, plan = evaluated.job, evaluated.plan
    return Cell(job.selected.arm.id, job.plan.id, plan.id, plan.protocol.entry.name, evaluated.labels)


def score(session: Session, done: list[Evaluated]) -> None:
    """Write ``results.csv``: each seed, and all seeds pooled."""
    rows: list[tuple[Any, ...]] = []
    for cell, runs in _cells(done).items():
        seeds = sorted({run.job.seed for run in runs})
        for seed in seeds:
            rows += _rows(cell, seed, _scores(session, [run for run in runs if run.job.seed == seed]))
        rows += _rows(cell, "all", _scores(session, runs))
    write_csv(session.folder.path / "results.csv", RESULTS, rows)


def compare(session: Session, done: list[Evaluated]) -> None:
    """Write ``comparisons.csv``: each arm against the reference arm, with p values corrected over the table."""
    reference = session.provenance.pipeline.reference.id  # of the whole pipeline, whatever this start works on
    cells = _cells(done)
    rows: list[tuple[Cell, Difference]] = []
    for cell, runs in cells.items():
        against = cells.get(replace(cell, arm=reference))
        if cell.arm != reference and against:
            rows += [(cell, difference) for difference in _differences(session, runs, against)]
    adjusted = holm([difference.p for _, difference in rows])
    write_csv(
        session.folder.path / "comparisons.csv",
        COMPARISONS,
        (_comparison(cell, reference, difference, p) for (cell, difference), p in zip(rows, adjusted, strict=True)),
    )


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
    found = _cached_json(session, "scores", at)
    if found is None:
        scores = runs[0].plan.protocol.build().scores([predictions_of(session, run) for run in runs])
        found = [[s.metric, s.value, s.low, s.high] for s in scores]
        write_json(session.cache.path("scores", at, ".json"), found)
    return [Score(*values) for values in found]


def _differences(session: Session, runs: list[Evaluated], reference: list[Evaluated]) -> list[Difference]:
    at = address("compare", runs=[run.address for run in runs], reference=[run.address for run in reference])
    found = _cached_json(session, "comparisons", at)
    if found is None:
        protocol = runs[0].plan.protocol.build()
        ours, theirs = ([predictions_of(session, run) for run in part] for part in (runs, reference))
        found = [[d.metric, d.difference, d.low, d.high, d.p, d.test] for d in protocol.compare(ours, theirs)]
        write_json(session.cache.path("comparisons", at, ".json"), found)
    return [Difference(*values) for values in found]


def _cached_json(session: Session, kind: str, at: str) -> Any:
    path = session.cache.path(kind, at, ".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _rows(cell: Cell, seed: int | str, scores: list[Score]) -> Iterator[tuple[Any, ...]]:
    for s in scores:
        yield (*cell.columns, seed, s.metric, _number(s.value), _number(s.low), _number(s.high))


def _comparison(cell: Cell, reference: str, d: Difference, p_adjusted: float) -> tuple[Any, ...]:
    arm, *rest = cell.columns
    numbers = (_number(value) for value in (d.difference, d.low, d.high, d.p, p_adjusted))
    return (arm, reference, *rest, d.metric, *numbers, d.test)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
