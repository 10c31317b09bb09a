"""Evaluate: each backbone on each task gives predictions; a killed or repeated run makes none twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkit.cache import address
from ctkit.contracts import Evaluation, Predictions, Task
from ctkit.errors import StorageError
from ctkit.only import Only
from ctkit.plan import Chosen, TaskPlan
from ctkit.predictions import TABLE, read_predictions, write_predictions
from ctkit.runs import place
from ctkit.stages import pretrain

if TYPE_CHECKING:
    from ctkit.session import Session


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

    def is_wanted(self, only: Only) -> bool:
        """Whether the user asks for it."""
        return self.job.is_wanted(only) and only.wants(task=self.plan.id)


def plan_evaluations(session: Session, jobs: Iterable[pretrain.Job]) -> list[Evaluated]:
    """Every evaluation that the pipeline asks for."""
    plans = [(plan, _fingerprint(plan)) for plan in session.pipeline.tasks]
    return [
        Evaluated(job, plan, labels, repeat, _address(job, plan, fingerprint, labels, repeat))
        for job in jobs
        for plan, fingerprint in plans
        for labels in plan.labels
        for repeat in range(plan.repeats)
    ]


def evaluate(session: Session, evaluations: list[Evaluated]) -> list[Evaluated]:
    """Do the wanted evaluations; return those that have predictions. One that fails does not stop the others."""
    done = []
    for evaluated in evaluations:
        if folder_of(session, evaluated).is_dir():
            session.cached("evaluate", evaluated.item)
        elif not evaluated.is_wanted(session.only) or not _try(session, evaluated):
            continue
        place(folder_of(session, evaluated) / TABLE, _show_path(session, evaluated))
        for note in predictions_of(session, evaluated).notes:
            session.note(f"{evaluated.plan.id}: {note}")
        done.append(evaluated)
    return done


def _fingerprint(plan: TaskPlan) -> str:
    files = [[file.path, file.size, file.mtime_ns] for file in built(plan.task).files()]
    return address("task", task=plan.task.identity, files=files)


@cache
def built(task: Chosen[Task[Any]]) -> Task[Any]:
    """Build a task once for all its evaluations: it may hold images that took long to make or to decode."""
    return task.build()


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
                task=built(evaluated.plan.task),
                backbone=pretrain.folder_of(session, evaluated.job) / pretrain.BACKBONE,
                labels=evaluated.labels,
                seed=session.pipeline.run.seed + evaluated.repeat,
                device=session.device,
                workers=session.workers.backend.workers,
                progress=bar.update,
            )
        )


def predictions_of(session: Session, evaluated: Evaluated) -> Predictions:
    """Return the predictions of an evaluation that is done."""
    return _read_once(folder_of(session, evaluated))


@cache
def _read_once(folder: Path) -> Predictions:
    return read_predictions(folder)
