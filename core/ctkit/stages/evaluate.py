"""Evaluate: each backbone on each task gives predictions; scores and comparisons are arithmetic on those."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctkit.cache import address
from ctkit.config import TaskPlan
from ctkit.contracts import Difference, Evaluation, Predictions, Score
from ctkit.errors import StorageError
from ctkit.files import write_csv, write_json
from ctkit.runs import place
from ctkit.stages import pretrain

if TYPE_CHECKING:
    from ctkit.session import Session

RESULTS = ("arm", "pretrain", "task", "protocol", "labels", "seed", "metric", "value", "ci_low", "ci_high")
COMPARISONS = (
    *("arm", "reference", "pretrain", "task", "protocol", "labels"),
    *("metric", "difference", "ci_low", "ci_high", "p", "p_adjusted", "test"),
)
_PREDICTIONS, _FACTS = "predictions.csv", "facts.json"


@dataclass(frozen=True)
class Evaluated:
    """The predictions of one backbone on one task, with one repeat of the evaluation and one share of labels."""

    job: pretrain.Job
    plan: TaskPlan
    labels: float
    repeat: int
    address: str

    @property
    def item(self) -> str:
        """What the evaluation is called in logs."""
        return f"{self.job.item}/{self.plan.id}/{self.plan.protocol.entry.name}"

    @property
    def cell(self) -> Cell:
        """The row of the table of results that it belongs to."""
        protocol = self.plan.protocol.entry.name
        return Cell(self.job.selected.arm.id, self.job.plan.id, self.plan.id, protocol, self.labels)


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


def plan_evaluations(session: Session, jobs: Iterable[pretrain.Job]) -> list[Evaluated]:
    """Every evaluation that the pipeline asks for."""
    fingerprints = {plan.id: _fingerprint(plan) for plan in session.pipeline.tasks}
    return [
        Evaluated(job, plan, labels, repeat, _address(job, plan, fingerprints[plan.id], labels, repeat))
        for job in jobs
        for plan in session.pipeline.tasks
        for labels in plan.labels
        for repeat in range(plan.repeats)
    ]


def evaluate(session: Session, evaluations: list[Evaluated]) -> list[Evaluated]:
    """Do the evaluations that are not cached; return those with predictions. One that fails stops no other."""
    done = []
    for evaluated in evaluations:
        if folder_of(session, evaluated).is_dir():
            session.cached("evaluate", evaluated.item)
        elif not _try(session, evaluated):
            continue
        place(folder_of(session, evaluated) / _PREDICTIONS, _show_path(session, evaluated))
        for note in _load(session, evaluated).notes:
            session.note(f"{evaluated.item}: {note}")
        done.append(evaluated)
    return done


def _fingerprint(plan: TaskPlan) -> str:
    files = [[file.path, file.size, file.mtime_ns] for file in plan.task.build().files()]
    return address("task", task=plan.task.identity, files=files)


def _address(job: pretrain.Job, plan: TaskPlan, fingerprint: str, labels: float, repeat: int) -> str:
    return address(
        "evaluate",
        backbone=job.address,
        task=fingerprint,
        protocol=plan.protocol.identity,
        labels=labels,
        repeat=repeat,
    )


def folder_of(session: Session, evaluated: Evaluated) -> Path:
    """Where the cache holds an evaluation's predictions."""
    return session.cache.path("evaluate", evaluated.address)


def _show_path(session: Session, evaluated: Evaluated) -> Path:
    folder = pretrain.show_folder(session, evaluated.job)
    protocol = evaluated.plan.protocol.entry.name
    return session.folder.predictions(folder, evaluated.plan.id, protocol, evaluated.repeat, evaluated.labels)


def _try(session: Session, evaluated: Evaluated) -> bool:
    try:
        with session.work("evaluate", evaluated.item):
            predictions = _predict(session, evaluated)
            with session.cache.entry("evaluate", evaluated.address) as folder:
                write_predictions(folder, predictions)
    except StorageError:
        raise
    except Exception as error:  # a plugin may raise anything; the other items go on
        session.fail("evaluate", evaluated.item, error)
        return False
    return True


def _predict(session: Session, evaluated: Evaluated) -> Predictions:
    with session.console.progress(f"evaluate {evaluated.item}", None) as bar:
        return evaluated.plan.protocol.build().predict(
            Evaluation(
                task=evaluated.plan.task.build(),
                backbone=pretrain.folder_of(session, evaluated.job) / pretrain.BACKBONE,
                labels=evaluated.labels,
                seed=session.pipeline.run.seed + evaluated.repeat,
                device=session.device,
                workers=session.workers.backend.workers,
                progress=bar.update,
            )
        )


# --- predictions on disk ------------------------------------------------------------------------------------------


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write predictions so that others can recompute every score."""
    patients = predictions.patients or ("",) * len(predictions.names)
    rows = (
        (name, patient, predictions.classes[label], *(f"{value:.17g}" for value in probabilities))
        for name, patient, label, probabilities in zip(
            predictions.names, patients, predictions.labels, predictions.probabilities, strict=True
        )
    )
    write_csv(folder / _PREDICTIONS, ("name", "patient", "label", *predictions.classes), rows)
    facts = {"classes": predictions.classes, "positive": predictions.positive, "notes": predictions.notes}
    write_json(folder / _FACTS, facts | {"patients": predictions.patients is not None})


def read_predictions(folder: Path) -> Predictions:
    """Read what ``write_predictions`` wrote."""
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    with (folder / _PREDICTIONS).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    classes = tuple(facts["classes"])
    return Predictions(
        names=tuple(row[0] for row in rows),
        labels=np.array([classes.index(row[2]) for row in rows], np.int64),
        probabilities=np.array([[float(value) for value in row[3:]] for row in rows]),
        classes=classes,
        positive=facts["positive"],
        patients=tuple(row[1] for row in rows) if facts["patients"] else None,
        notes=tuple(facts["notes"]),
    )


# --- scores and comparisons ---------------------------------------------------------------------------------------


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
    reference = session.pipeline.reference.id
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
        cells[evaluated.cell].append(evaluated)
    return dict(cells)


def _scores(session: Session, runs: list[Evaluated]) -> list[Score]:
    at = address("score", runs=[run.address for run in runs])
    found = _cached_json(session, "scores", at)
    if found is None:
        scores = runs[0].plan.protocol.build().scores([_load(session, run) for run in runs])
        found = [[s.metric, s.value, s.low, s.high] for s in scores]
        write_json(session.cache.path("scores", at, ".json"), found)
    return [Score(*values) for values in found]


def _differences(session: Session, runs: list[Evaluated], reference: list[Evaluated]) -> list[Difference]:
    at = address("compare", runs=[run.address for run in runs], reference=[run.address for run in reference])
    found = _cached_json(session, "comparisons", at)
    if found is None:
        protocol = runs[0].plan.protocol.build()
        ours, theirs = ([_load(session, run) for run in part] for part in (runs, reference))
        found = [[d.metric, d.difference, d.low, d.high, d.p, d.test] for d in protocol.compare(ours, theirs)]
        write_json(session.cache.path("comparisons", at, ".json"), found)
    return [Difference(*values) for values in found]


def _cached_json(session: Session, kind: str, at: str) -> Any:
    path = session.cache.path(kind, at, ".json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _load(session: Session, run: Evaluated) -> Predictions:
    return _read_once(folder_of(session, run))


@cache
def _read_once(folder: Path) -> Predictions:
    return read_predictions(folder)


def _rows(cell: Cell, seed: int | str, scores: list[Score]) -> Iterator[tuple[Any, ...]]:
    for s in scores:
        yield (*cell.columns, seed, s.metric, _number(s.value), _number(s.low), _number(s.high))


def _comparison(cell: Cell, reference: str, d: Difference, p_adjusted: float) -> tuple[Any, ...]:
    arm, *rest = cell.columns
    numbers = (_number(value) for value in (d.difference, d.low, d.high, d.p, p_adjusted))
    return (arm, reference, *rest, d.metric, *numbers, d.test)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"
