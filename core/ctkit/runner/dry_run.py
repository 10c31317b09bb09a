"""What a run would do: which results are there, which would be made, how large they would be and how long that takes.

Times come from trials on this machine and from trainings that are cached; nothing is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np

from ctkit.console import hours, quantities
from ctkit.contracts import Reducer
from ctkit.pipeline_file import Arm, Chosen
from ctkit.runner import estimates
from ctkit.session import Session
from ctkit.slices import Catalogue, Table
from ctkit.stages import describe as describing
from ctkit.stages import evaluate as evaluating
from ctkit.stages import pretrain as pretraining
from ctkit.stages import scan as scanning
from ctkit.stages import select as selecting
from ctkit.stages.data import Data
from ctkit.stages.jobs import Job
from ctkit.stages.narrowing import narrowed
from ctkit.stages.selected import Selections, keys
from ctkit.storage.records import TrainingFacts

State = Literal["cached", "to do", "to do, size not known yet"]


@dataclass(frozen=True)
class Planned:
    """One line of the plan."""

    stage: str
    item: str
    state: State
    detail: str


def plan(session: Session) -> Iterator[Planned]:
    """Say for each stage what is there and what would be done; what an earlier stage decides is said to be unknown."""
    files, data = scanning.found_before(session)
    if data is None:
        yield Planned("scan", "", "to do", f"{files} files")
        yield from _unknown(session, "describe", "the number of slices is known after the scan")
        return
    session = narrowed(session)
    slices = int(data.catalogue.counts.sum())
    yield Planned("scan", "", "cached", f"{files} files, {len(data.catalogue)} volumes, {slices} slices")
    reducers = describing.described_reducers(session, data.catalogue)
    missing = describing.missing(session, data.catalogue, reducers)
    yield _describe(session, data.catalogue, missing, reducers)
    if missing:
        yield from _unknown(session, "select", f"at most {_store_size(session, slices)} in the slice store")
        return
    yield from _chosen(session, data)


def tree(lines: Iterable[Planned]) -> Iterator[tuple[str, str, str]]:
    """Lines of a plan with their items below their stages: name as a branch, state and detail."""
    for stage, of_stage in groupby(lines, key=lambda line: line.stage):
        items = list(of_stage)
        if items[0].item:
            yield stage, "", ""
        for number, line in enumerate(items, start=1):
            branch = "└─ " if number == len(items) else "├─ "
            yield branch + line.item if line.item else stage, line.state, line.detail


def _chosen(session: Session, data: Data) -> Iterator[Planned]:
    data = selecting.found_before(session, data)
    table, known = data.table, data.selections
    for arm in session.arms:
        yield _arm(arm, known, len(table))
    if any(key not in known for key in keys(session.arms, session.pipeline.seeds)):
        yield from _unknown(session, "materialise", f"at most {_store_size(session, len(table))} in the slice store")
        return
    data = pretraining.plan_jobs(session, data)
    jobs = [job for job in data.jobs if job.is_wanted(session.only)]
    missing = [job for job in jobs if not pretraining.folder_of(session, job).path.is_dir()]
    kept = np.zeros(len(table), bool)
    for job in missing:
        kept |= job.selected.selection.kept
    size = _store_size(session, int(kept.sum()))
    if jobs:
        yield Planned("materialise", "", "to do" if missing else "cached", f"up to {size} in the slice store")
    yield from _trainings(session, table, jobs, missing)
    yield from _evaluations(session, data)


def _trainings(session: Session, table: Table, jobs: list[Job], missing: list[Job]) -> Iterator[Planned]:
    """A line for each training, after one for all that are to do, where it is known how long these take."""
    before = estimates.trainings(session.cache) if missing else []
    at_once = session.device_pool.at_once(len([job for job in missing if not job.baseline]))
    lines, seconds = [], []
    for job in jobs:
        words, expected = _training(session, table, job, before, at_once)
        if job not in missing:
            lines.append(Planned("pretrain", job.item, "cached", words))
            continue
        seconds += [] if job.baseline else [expected]
        time = "; the time is known after the first one" if expected is None else f"; about {hours(expected)}"
        lines.append(Planned("pretrain", job.item, "to do", words if job.baseline else words + time))
    known = [one for one in seconds if one is not None]
    if len(known) > 1 and len(known) == len(seconds):
        total = estimates.altogether(known, at_once)
        several = f", {at_once} at a time" if at_once > 1 else ""
        yield Planned("pretrain", "", "to do", f"{len(known)} trainings{several}; about {hours(total)}")
    yield from lines


def _training(
    session: Session, table: Table, job: Job, before: list[TrainingFacts], at_once: int
) -> tuple[str, float | None]:
    """What a training is made of, and how many seconds it takes with others at once as far as that is known."""
    if job.baseline:
        return "baseline", None
    kept = job.selected.selection.kept
    slices = int(kept.sum())
    steps = job.plan.method.build().steps(slices, len(np.unique(table.volume[kept])))
    if steps is None:
        return f"{slices} slices", None
    return f"{slices} slices, {steps} steps", estimates.training(before, job, session.device, steps, at_once)


def _evaluations(session: Session, data: Data) -> Iterator[Planned]:
    by_task: dict[str, list[bool]] = {}
    evaluations = evaluating.plan_evaluations(session, data).evaluations
    for evaluated in filter(lambda one: one.is_wanted(session.only), evaluations):
        name = f"{evaluated.plan.id}/{evaluated.plan.protocol.entry.name}"
        by_task.setdefault(name, []).append(evaluating.folder_of(session, evaluated).is_dir())
    for name, there in by_task.items():
        state: State = "cached" if all(there) else "to do"
        yield Planned("evaluate", name, state, f"{len(there) - sum(there)} of {len(there)} evaluations to make")


def _arm(arm: Arm, known: Selections, slices: int) -> Planned:
    chosen = [selected for (name, _), selected in known.items() if name == arm.id]
    if not chosen:
        return Planned("select", arm.id, "to do", f"of {slices} slices")
    kept = int(chosen[0].selection.kept.sum())
    return Planned("select", arm.id, "cached", f"{kept} of {slices} slices ({quantities.percent(kept / slices)})")


def _describe(
    session: Session, catalogue: Catalogue, missing: list[int], reducers: list[Chosen[Reducer[Any]]]
) -> Planned:
    detail = f"{len(missing)} of {len(catalogue)} volumes to decode"
    if not missing:
        return Planned("describe", "", "cached", detail)
    pairs = [chosen.entry.name for chosen in reducers if chosen.build().evidence == "pair"]
    fewer = any(chosen.at is not None for chosen in reducers)
    if pairs:
        counts = catalogue.counts[missing]
        triangle = int((counts * (counts - 1) // 2).sum())
        detail += f"; {'at most ' * fewer}{triangle:,} pairs of slices to compare for {' and '.join(pairs)}"
    cost = estimates.describing(session, catalogue, missing, reducers)
    if cost:
        workers = session.workers.backend.workers
        about = "at most" if fewer else "about"
        detail += f"; {about} {hours(cost.seconds)} with {workers} workers, {quantities.size(cost.size)} of evidence"
    return Planned("describe", "", "to do", detail)


def _unknown(session: Session, first: str, detail: str) -> Iterator[Planned]:
    stages = ["describe", "select"]
    if session.pipeline.pretrains or session.pipeline.baselines:
        stages += ["materialise", "pretrain", "evaluate"] if session.pipeline.tasks else ["materialise", "pretrain"]
    for stage in stages[stages.index(first) if first in stages else len(stages) :]:
        yield Planned(stage, "", "to do, size not known yet", detail)
        detail = ""


def _store_size(session: Session, slices: int) -> str:
    return quantities.size(slices * session.pipeline.rendering.size**2)
