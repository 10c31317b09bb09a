"""Evaluate: each backbone on each task gives predictions; a killed or repeated run makes none twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from ctkit.compute import Call, Coroutine
from ctkit.contracts import PRETRAINING, Evaluation, Leak, Predictions, Rows
from ctkit.contracts.judge import Judge
from ctkit.pipeline_file import TaskPlan
from ctkit.promises import check_classes, check_predictions, check_splits
from ctkit.session import Session
from ctkit.stages import pretrain
from ctkit.stages.data import Data
from ctkit.stages.jobs import Evaluated
from ctkit.stages.materialise import rows_in_store, slice_store
from ctkit.stages.predictions import read_prediction_facts, read_predictions, write_predictions
from ctkit.stages.selected import Selected
from ctkit.stages.tasks import built
from ctkit.storage import address, place
from ctkit.storage.records import read_rows, write_rows
from ctkit.storage.run_folder import facts_beside

_TABLE, _FACTS, _LEAKS = "predictions.csv", "facts.json", "leaks.csv"  #: in the cache
_Stored = Callable[[str, int | None], Rows | None]  # by arm and seed of a selection
NOT_COMPARED = "test images were not compared with the slices of the pre-training: these are no longer stored"


def plan_evaluations(session: Session, data: Data) -> Data:
    """Return the data with every evaluation that is asked for."""
    plans = [(plan, _fingerprint(plan)) for plan in session.pipeline.tasks]
    evaluations = (
        Evaluated(job, plan, labels, repeat, fingerprint)
        for job in sorted(data.jobs, key=lambda job: job.baseline)
        for plan, fingerprint in plans
        for labels in plan.labels
        for repeat in range(plan.repeats)
    )
    return replace(data, evaluations=tuple(evaluations))


def forget_others(session: Session, data: Data) -> None:
    """Remove from the run folder what is shown of evaluations that are not those of its pipeline now."""
    for evaluated in data.evaluations:
        table = show_path(session, evaluated)
        facts = facts_beside(table)
        if table.exists() and read_prediction_facts(facts).get("address") != evaluated.address:
            table.unlink()
            facts.unlink(missing_ok=True)


def evaluate(session: Session, data: Data) -> Data:
    """Do the wanted evaluations of the backbones there are, and return the data with those that have predictions.

    One that fails stops no other.
    """
    trained = {job.item for job in data.backbones}
    evaluations = [one for one in data.evaluations if one.job.item in trained]
    store = slice_store(session)

    @cache
    def slices(arm: str, seed: int | None) -> Rows | None:
        """The slices of a selection, looked up once; None where one is stored no more."""
        return rows_in_store(store, session, data, data.selections[arm, seed].selection)

    absent = [one for one in evaluations if not _show_if_cached(session, one)]
    missing = [one for one in absent if one.is_wanted(session.only)]
    # The first evaluation of a backbone on a task makes its features, which others would else make at the same time.
    first: dict[str, Evaluated] = {}
    others = [one for one in missing if first.setdefault(one.work_address, one) is not one]
    lacking = set()
    for some in (list(first.values()), others):
        made = session.device_pool.run([_try(session, data, evaluated, slices, len(some)) for evaluated in some])
        lacking |= {one.item for one, done in zip(some, made, strict=True) if not done}
    for one in absent:  # backbones may be the same: what was made for one is there for the other
        if not (one.is_wanted(session.only) or _show_if_cached(session, one)):
            lacking.add(one.item)
    data = replace(data, predictions=tuple(one for one in evaluations if one.item not in lacking))
    write_rows(session.folder.leaks, Leak, sorted({leak for one in data.predictions for leak in _leaks(session, one)}))
    return data


def _leaks(session: Session, evaluated: Evaluated) -> Iterator[Leak]:
    """Yield the leaks that an evaluation has found."""
    for leak in read_rows(folder_of(session, evaluated) / _LEAKS, Leak):
        arm = evaluated.job.arm if leak.other_split == PRETRAINING else ""
        yield leak._replace(task=evaluated.plan.id, arm=arm)


def _show_if_cached(session: Session, evaluated: Evaluated) -> bool:
    if not session.cache.holds("evaluate", evaluated.address):
        return False
    session.cached("evaluate", evaluated.item)
    _show(session, evaluated)
    return True


def _fingerprint(plan: TaskPlan) -> str:
    with Judge(plan.task.title).calling("files"):
        files = [[file.path, file.size, file.mtime_ns] for file in built(plan.task).files()]
    return address("task", task=plan.task.identity, files=files)


def folder_of(session: Session, evaluated: Evaluated) -> Path:
    """Where the cache holds an evaluation's predictions."""
    return session.cache.path("evaluate", evaluated.address)


def show_path(session: Session, evaluated: Evaluated) -> Path:
    """Where the run folder shows an evaluation's predictions."""
    folder, plan = pretrain.show_folder(session, evaluated.job), evaluated.plan
    return folder.predictions(plan.id, plan.protocol.entry.name, evaluated.repeat, evaluated.labels)


def _show(session: Session, evaluated: Evaluated) -> None:
    """Put the predictions into the run folder, and say what is to be known of them."""
    plan, shown = evaluated.plan, show_path(session, evaluated)
    place(folder_of(session, evaluated) / _TABLE, shown)
    place(folder_of(session, evaluated) / _FACTS, facts_beside(shown))
    predictions = predictions_of(session, evaluated)
    for note in (*predictions.notes, *predictions.warnings):
        session.note(note, plan.id)


def _try(session: Session, data: Data, evaluated: Evaluated, slices: _Stored, others: int) -> Coroutine[bool]:
    """Make predictions, with so many others to make; say whether they are there."""
    with session.going_on("evaluate", evaluated.item):
        work = _predict(session, data, evaluated, slices, session.workers_each(others))
        yield from session.once("evaluate", evaluated.item, evaluated.address, lambda _: work)
        _show(session, evaluated)
        return True
    return False


def _predict(session: Session, data: Data, evaluated: Evaluated, stored: _Stored, workers: int) -> Coroutine[None]:
    job, selected = evaluated.job, evaluated.job.selected
    slices = None if job.baseline else stored(selected.arm.id, selected.seed)
    known = partial(
        Evaluation,
        backbone=pretrain.folder_of(session, evaluated.job).backbone,
        folder=session.cache.shared("evaluation", evaluated.work_address),
        labels=evaluated.labels,
        seed=evaluated.seed,
        device=session.device,
        workers=workers,
        slices=slices,
    )
    with session.console.progress(f"evaluate {evaluated.item}", None) as bar:
        work = partial(_predicted, evaluated.plan, known)
        predictions: Predictions = yield Call(work, {"progress": bar.update})
    if predictions.patients:  # whose names sorted are all that resampling needs
        numbers = {patient: f"{n:06}" for n, patient in enumerate(sorted(set(predictions.patients)), 1)}
        predictions = replace(predictions, patients=tuple(numbers[patient] for patient in predictions.patients))
    if slices is None and not evaluated.job.baseline:
        predictions = replace(predictions, warnings=(*predictions.warnings, NOT_COMPARED))
    with session.cache.entry("evaluate", evaluated.address) as entry:
        write_predictions(entry / _TABLE, entry / _FACTS, predictions, evaluated.address)
        write_rows(entry / _LEAKS, Leak, (_named(data, selected, leak) for leak in predictions.leaks))


def _named(data: Data, selected: Selected, leak: Leak) -> Leak:
    """Return a leak that names the file of a slice of the pre-training."""
    numbers = np.flatnonzero(selected.selection.kept)
    if leak.other_split != PRETRAINING or not leak.other_name.isdecimal() or int(leak.other_name) >= len(numbers):
        return leak
    number = numbers[int(leak.other_name)]
    volume = data.catalogue[int(data.table.volume[number])]
    return leak._replace(other_name=volume.source(int(data.table.index[number])))


def _predicted(plan: TaskPlan, job: Callable[..., Evaluation], progress: Callable[[int, int], None]) -> Predictions:
    """Predict; perhaps in another process, which keeps the task for the next time as this one does.

    Raises ``CtkitError`` where task or protocol fail or break a promise.
    """
    task, judge = built(plan.task), Judge(plan.task.title)
    check_classes(judge, task)
    with judge.calling("splits"):
        splits = task.splits()
    check_splits(judge, splits, task.classes)
    judge = Judge(plan.protocol.title)
    with judge.calling("predict"):
        predictions = plan.protocol.build().predict(job(task=task, progress=progress))
    check_predictions(judge, predictions, task)
    return predictions


def predictions_of(session: Session, evaluated: Evaluated) -> Predictions:
    """Return the predictions of an evaluation that is done."""
    return _read_once(folder_of(session, evaluated))


@cache
def _read_once(folder: Path) -> Predictions:
    return read_predictions(folder / _TABLE, folder / _FACTS)
