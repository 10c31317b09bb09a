"""Pretrain: an arm's rows become a backbone, once for each seed. A killed training goes on from its checkpoint."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ctkit.compute import Call, Coroutine, start_child
from ctkit.contracts import Method, Pretrained, Pretraining, Rows, Task
from ctkit.contracts.judge import Judge
from ctkit.errors import CtkitError
from ctkit.files import link, write_json
from ctkit.pipeline_file import Arm, Chosen, Pipeline, PretrainPlan
from ctkit.promises import check_pretrained
from ctkit.session import Session
from ctkit.slices import Selection, Table, rendering
from ctkit.stages.data import Data
from ctkit.stages.jobs import Job
from ctkit.stages.materialise import by_volume, rows_of, shown_address
from ctkit.stages.selected import of_seed
from ctkit.stages.tasks import built, watched_tasks
from ctkit.storage import TrainingFolder, address, forget, place
from ctkit.storage.records import HistoryRow, TrainingFacts, read_training, write_rows

#: What ``run.json`` says of each training.
COSTS = ("steps", "epochs", "seconds", "slices_per_second", "waiting", "joules", "peak_bytes", "collapsed")


def plan_jobs(session: Session, data: Data) -> Data:
    """Return the data with every backbone that is asked for: the baselines, then the pre-trainings in their order."""
    pipeline, selections, table = session.pipeline, data.selections, data.table
    shown = partial(shown_address, session, data.catalogue)
    digests = {key: selection_digest(shown, table, chosen.selection) for key, chosen in selections.items()}
    look = [pipeline.rendering.model_dump(mode="json"), rendering.VERSION]

    def job(plan: PretrainPlan, arm: Arm, seed: int, *, baseline: bool) -> Job:
        chosen = of_seed(selections, arm, seed)
        digest = digests[arm.id, chosen.seed]
        at = address("pretrain", slices=digest, rendering=look, method=plan.method.identity, seed=seed)
        return Job(chosen, plan, seed, at, baseline)

    reference = pipeline.reference
    there = reference in session.arms
    baselines = ((plan, seed) for plan in pipeline.baselines for seed in seeds_of(plan, pipeline) if there)
    asked = itertools.product(pipeline.pretrains, session.arms, pipeline.seeds)
    jobs = (
        *(job(plan, reference, seed, baseline=True) for plan, seed in baselines),
        *(job(plan, arm, seed, baseline=False) for plan, arm, seed in asked),
    )
    return replace(data, jobs=jobs)


def seeds_of(baseline: PretrainPlan, pipeline: Pipeline) -> range:
    """Seeds of a baseline: all, or the first alone where its weights are given."""
    return pipeline.seeds if baseline.method.build().draws else pipeline.seeds[:1]


def found_before(session: Session, data: Data) -> Data:
    """Show the backbones that are cached in the run folder, and return the data with these."""
    return replace(data, backbones=tuple(job for job in data.jobs if _show_if_cached(session, job)))


def missing(session: Session, data: Data) -> list[Job]:
    """The wanted jobs that have no backbone yet."""
    there = {job.item for job in data.backbones}
    return [job for job in data.jobs if job.item not in there and job.is_wanted(session.only)]


def pretrain(session: Session, data: Data) -> Data:
    """Make the wanted backbones that are missing, and return the data with all there are.

    One that fails does not stop the others.
    """
    wanted = missing(session, data)
    at_once = session.device_pool.at_once(len([job for job in wanted if not job.baseline]))
    made = session.device_pool.run([_try(session, data, job, at_once) for job in wanted])
    there = {job.item for job in data.backbones} | {job.item for job, done in zip(wanted, made, strict=True) if done}
    for job in data.jobs:  # two arms may choose the same slices: what was made for one is there for the other
        if job.item not in there and not job.is_wanted(session.only) and _show_if_cached(session, job):
            there.add(job.item)
    return replace(data, backbones=tuple(job for job in data.jobs if job.item in there))


def selection_digest(shown: Callable[[int], str], table: Table, chosen: Selection) -> str:
    """Digest of the kept slices: what a backbone depends on, whatever else there is.

    ``shown`` gives the address of a volume by its number, as training sees it.
    """
    digest = hashlib.sha256()
    for volume, index in by_volume(table, chosen.kept).items():
        digest.update(f"{shown(volume)}:{index.tolist()};".encode())
    return digest.hexdigest()


def _show_if_cached(session: Session, job: Job) -> bool:
    if not session.cache.holds("pretrain", job.address):
        return False
    session.cached("pretrain", job.item)
    _show(session, job)
    return True


def forget_others(session: Session, data: Data) -> None:
    """Remove from the run folder what is shown of backbones that are not those of its pipeline now."""
    for job in data.jobs:
        shown = show_folder(session, job)
        facts = read_training(shown.facts)
        if shown.facts.exists() and (facts is None or facts.get("address") != job.address):
            forget(shown.path)


def folder_of(session: Session, job: Job) -> TrainingFolder:
    """Where the cache holds a job's backbone."""
    return TrainingFolder(session.cache.path("pretrain", job.address))


def show_folder(session: Session, job: Job) -> TrainingFolder:
    """Where the run folder shows a job's backbone."""
    if job.baseline:
        return session.folder.baseline(job.plan.id, job.seed)
    return session.folder.pretrain(job.arm, job.pretrain, job.seed)


def _try(session: Session, data: Data, job: Job, at_once: int) -> Coroutine[bool]:
    """Make a backbone, ``at_once`` of them at the same time; say whether it is there."""
    with session.going_on("pretrain", job.item):
        work = partial(_train, session, data, job, at_once)
        yield from session.once("pretrain", job.item, job.address, work)
        _show(session, job)
        return True
    return False


def _train(session: Session, data: Data, job: Job, at_once: int, folder: Path) -> Coroutine[None]:
    rows = rows_of(data.table, job.selected.selection, data.shards, session.pipeline.rendering.size)
    slices = 0 if job.baseline else len(rows)
    with session.console.progress(f"pretrain {job.item}", None) as bar:

        def metric(name: str, value: float, step: int) -> None:
            facts = {"stage": "pretrain", "item": job.item, "name": name, "value": value, "step": step}
            session.registry.notify("ctkit_metric_logged", run=session.info, **facts)

        known = partial(
            Pretraining,
            rows=rows,
            seed=job.seed,
            device=session.device,
            workers=session.workers_each(at_once),
            folder=folder,
            metadata=_metadata(session, job, slices),
            devices=session.pipeline.compute.devices,
            start_child=partial(start_child, limit=session.workers.backend.time_limit),
        )
        watched = {} if job.baseline else watched_tasks(session.pipeline)
        work = partial(_trained, job.plan.method, watched, known)
        trained: Pretrained = yield Call(work, {"progress": bar.update, "metric": metric})
    if session.device == "cpu" and at_once > 1 and not job.baseline:
        slower = f"up to {at_once} trainings shared the cores, so it took longer than alone"
        trained = replace(trained, notes=(*trained.notes, slower))
    for fault in session.registry.call("ctkit_check_backbone", path=trained.backbone):
        raise CtkitError(f"{job.plan.method.title}: {fault}")
    _publish(session, job, trained, rows, at_once)


def _trained(
    method: Chosen[Method[Any]],
    watched: dict[str, Chosen[Task[Any]]],
    job: Callable[..., Pretraining],
    progress: Callable[[int, int], None],
    metric: Callable[[str, float, int], None],
) -> Pretrained:
    """Train; perhaps in another process, where what is called reaches this one.

    Raises ``CtkitError`` where the method fails or gives no backbone.
    """
    tasks = {name: built(task) for name, task in watched.items()}
    judge = Judge(method.title)
    with judge.calling("pretrain"):
        trained = method.build().pretrain(job(watched=tasks, progress=progress, metric=metric))
    check_pretrained(judge, trained)
    return trained


def _metadata(session: Session, job: Job, slices: int) -> dict[str, str]:
    return {
        "method": job.plan.method.entry.name,
        "arm": job.arm,
        "slices": str(slices),
        "seed": str(job.seed),
        "address": job.address,
        "fingerprint": session.provenance.fingerprint or "",
        "rendering": json.dumps(session.pipeline.rendering.model_dump(mode="json")),
    }


def _publish(session: Session, job: Job, trained: Pretrained, rows: Rows, at_once: int) -> None:
    rate = trained.steps * trained.batch / trained.seconds if trained.seconds > 0 else 0.0
    facts: TrainingFacts = {
        "slices": 0 if job.baseline else len(rows),
        "mean": rows.mean,
        "std": rows.std,
        "jobs": at_once,
        "steps": trained.steps,
        "epochs": trained.epochs,
        "batch": trained.batch,
        "seconds": trained.seconds,
        "notes": list(trained.notes),
        "collapsed": trained.collapsed,
        "waiting": trained.waiting,
        "joules": trained.joules,
        "peak_bytes": trained.peak_bytes,
        "address": job.address,
        "method": job.plan.method.entry.name,
        "parameters": job.plan.method.params.model_dump(mode="json"),
        "slices_per_second": round(rate, 1),
        "device": session.device,
    }
    with session.cache.entry("pretrain", job.address) as entry:
        folder = TrainingFolder(entry)
        shutil.copyfile(trained.backbone, folder.backbone)
        write_rows(folder.history, HistoryRow, map(HistoryRow._make, trained.history))
        write_json(folder.facts, facts)


def _show(session: Session, job: Job) -> None:
    """Put the results into the run folder, and say what the user must know."""
    source, target = folder_of(session, job), show_folder(session, job)
    link(source.backbone, target.backbone)
    place(source.history, target.history)
    place(source.facts, target.facts)
    facts: dict[str, Any] = json.loads(source.facts.read_text(encoding="utf-8"))
    session.provenance.trainings[job.item] = {name: facts[name] for name in COSTS}
    for note in facts["notes"]:
        session.note(note, job.item)
