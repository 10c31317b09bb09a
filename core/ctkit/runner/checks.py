"""What would keep a pipeline from running, found before it starts: plugins, folders and device are asked."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ctkit.contracts.judge import Judge
from ctkit.contracts.reducer import knob_of
from ctkit.errors import ConfigError, CtkitError, RequestError
from ctkit.hookspecs import DISTRIBUTION, STAGES, Stage
from ctkit.pipeline_file import Chosen, Pipeline, TaskPlan
from ctkit.plugins import Registry, missing_extra
from ctkit.session import EVERYTHING, Only, Session
from ctkit.stages import describe as describing
from ctkit.stages import evaluate as evaluating
from ctkit.stages import pretrain as pretraining
from ctkit.stages import scan as scanning
from ctkit.stages import select as selecting
from ctkit.stages.narrowing import narrowed, wanted_arms
from ctkit.stages.selected import keys
from ctkit.storage import Cache, RunFolder, address

_LINES = 100  #: that a check may say
_DASK = 8786  #: port of a scheduler
_PATIENCE = 5.0  #: seconds that one has to answer


@dataclass(frozen=True)
class Fault:
    """One thing that is missing."""

    text: str  #: names plugin and arm or task, what is missing, where, and what to do
    plugin: Chosen[Any] | None = None  #: that needs it; None for the run itself


def check_start(session: Session, until: Stage = "report") -> None:
    """Raise ``ConfigError``, a line for each fault, where something is missing for what this start has to do."""
    if said := missing_packages(session.pipeline, session.only, until):
        raise RequestError(said)
    found = list(_faults(session.pipeline, session.registry, session.folder, session.device, session.only, until))
    if not session.cache.looking:
        found[:0] = [Fault(f"run: {text}") for text in unwritable(session.folder)]
    if found and all(fault.plugin and fault.plugin.entry.kind not in ("dataset", "task") for fault in found):
        with suppress(CtkitError):  # what cannot be told is needed
            at_work = _at_work(session)
            found = [fault for fault in found if fault.plugin in at_work]
    _refuse(found)


def check_file(pipeline: Pipeline, registry: Registry, folder: RunFolder) -> None:
    """Raise ``ConfigError``, a line for each fault, where something that a pipeline needs is missing."""
    asked = pipeline.compute.device
    registry = registry.without(pipeline.rules.disable)
    _refuse(list(_faults(pipeline, registry, folder, None if asked == "auto" else asked)))


def missing_packages(pipeline: Pipeline, only: Only = EVERYTHING, until: Stage = "report") -> str:
    """Say in one line which plugins of a start need what is not installed, and what pip installs; "" where all is."""
    entries = [chosen.entry for _, chosen in _used(pipeline, only, STAGES.index(until)) if chosen.entry.needs]
    needs = {f"{entry.kind} {entry.name!r}": entry.needs for entry in entries}
    if pipeline.compute.backend == "dask" and (extra := missing_extra(DISTRIBUTION, "dask")):
        needs['backend "dask"'] = extra
    extras = " ".join(f"'{extra}'" for extra in dict.fromkeys(needs.values()))
    return f"packages are missing for {', '.join(needs)}: pip install {extras}" if needs else ""


def _refuse(found: list[Fault]) -> None:
    if found:
        raise ConfigError(*(fault.text for fault in found))


def _faults(
    pipeline: Pipeline,
    registry: Registry,
    folder: RunFolder,
    device: str | None = None,
    only: Only = EVERYTHING,
    until: Stage = "report",
) -> Iterator[Fault]:
    """Yield what is missing for a start of a pipeline, whatever is cached of it. ``device`` may not be known yet."""
    for target, there in _targets(folder):
        if not there.is_dir():
            yield Fault(f"run: cannot write {target}: {there} is a file; give another folder")
    if pipeline.compute.scheduler:
        yield from map(Fault, _of_scheduler(pipeline.compute.scheduler))
    try:
        for texts in registry.call("ctkit_check_run"):
            yield from map(Fault, _lines(Judge("a plugin's ctkit_check_run"), texts))
    except CtkitError as error:
        yield Fault(str(error))
    if STAGES.index(until) >= STAGES.index("evaluate"):
        yield from map(Fault, filter(None, (_unfit(plan) for plan in pipeline.tasks if only.wants(task=plan.id))))
    users: dict[str, tuple[Chosen[Any], dict[str, None]]] = {}
    for user, chosen in _used(pipeline, only, STAGES.index(until)):
        identity = chosen.full_identity
        if knob := knob_of(type(chosen.params)):  # arms that differ in it alone miss the same
            del identity["parameters"][knob.name]
        at = address("check", kind=chosen.entry.kind, plugin=identity)
        users.setdefault(at, (chosen, {}))[1][user] = None
    for chosen, names in users.values():
        user = " and ".join(filter(None, names))
        place = ", ".join(dict.fromkeys(filter(None, (user, chosen.title))))
        for text in _texts(chosen, device):
            yield Fault(f"{place}: {text}", chosen)


def _used(pipeline: Pipeline, only: Only, last: int) -> Iterator[tuple[str, Chosen[Any]]]:
    """Yield the plugins that a start up to the stage of number ``last`` uses, each with whose it is."""
    yield "", pipeline.dataset
    yield from (("", tracker) for tracker in pipeline.trackers)
    if last >= STAGES.index("describe"):
        yield from ((f"arm {arm.id!r}", step.reducer) for arm in wanted_arms(pipeline, only) for step in arm.steps)
    if last >= STAGES.index("select"):  # which knows the addresses of all that follows
        yield from ((f"task {plan.id!r}", plan.task) for plan in pipeline.tasks)
    if last >= STAGES.index("pretrain"):
        methods = (plan for plan in pipeline.pretrains if only.wants(pretrain=plan.id))
        yield from ((f"pretrain {plan.id!r}", plan.method) for plan in methods)
        baselines = (plan for plan in pipeline.baselines if only.wants(arm=plan.id, pretrain=""))
        yield from ((f"baseline {plan.id!r}", plan.method) for plan in baselines)
    if last >= STAGES.index("evaluate"):
        wanted_tasks = (plan for plan in pipeline.tasks if only.wants(task=plan.id))
        yield from ((f"task {plan.id!r}", plan.protocol) for plan in wanted_tasks)


def _unfit(plan: TaskPlan) -> str:
    """Say that a protocol needs masks which its task has not; "" where it is not so."""
    if not plan.protocol.build().masks or plan.task.build().masks:
        return ""
    return f"task {plan.id!r}: {plan.protocol.title} needs masks, and {plan.task.title} has none; take another task"


def _texts(chosen: Chosen[Any], device: str | None) -> list[str]:
    """What a plugin misses beside packages; what its check raises is one thing more."""
    found: list[str] = []
    if chosen.entry.needs:
        return found
    try:
        with (judge := Judge(chosen.title)).calling("check"):
            plugin = chosen.build()
            found.extend(_of_source(plugin.root) if plugin.root else ())
            found.extend(() if found else _lines(judge, plugin.check(device)))
    except CtkitError as error:
        found.append(re.sub(rf"^{re.escape(chosen.title)}:? ", "", str(error)))  # which stands before it anyway
    return found


def _lines(judge: Judge, said: Any) -> Iterator[str]:
    """Yield what a check says, which must be lines: of one string each letter would be one."""
    wrong = "check must return lines, () for none, but returned {:.100}; return a list of strings"
    judge.must(isinstance(said, Iterable) and not isinstance(said, str), wrong.format(repr(said)))
    for line in islice(said, _LINES):
        judge.must(isinstance(line, str) and line.strip(), wrong.format(repr(line)))
        yield line


def _at_work(session: Session) -> list[Chosen[Any] | None]:
    """Reducers, methods and protocols whose results are not all cached; what is cached needs no weights and no GPU."""
    pipeline, data = session.pipeline, scanning.found_before(session)[1]
    steps = [step.reducer for arm in session.arms for step in arm.steps]
    later: list[Chosen[Any]] = [plan.method for plan in (*pipeline.pretrains, *pipeline.baselines)]
    later += [plan.protocol for plan in pipeline.tasks]
    if data is None:
        return [*steps, *later]
    session = narrowed(session)
    described = describing.described_reducers(session, data.catalogue)
    if found := [one for one in described if describing.missing(session, data.catalogue, [one])]:
        return [*found, *later]
    data = selecting.found_before(session, data)
    if any(key not in data.selections for key in keys(session.arms, pipeline.seeds)):
        return [*steps, *later]
    data = evaluating.plan_evaluations(session, pretraining.plan_jobs(session, data))
    trainings = (job for job in data.jobs if not pretraining.folder_of(session, job).path.is_dir())
    evaluations = (one for one in data.evaluations if not evaluating.folder_of(session, one).is_dir())
    return [*(job.plan.method for job in trainings), *(one.plan.protocol for one in evaluations)]


# --- folders and hosts --------------------------------------------------------------------------------------------


def _of_source(folder: Path) -> Iterator[str]:
    """Say why nothing can be read from a folder."""
    try:
        with os.scandir(folder) as entries:
            if not any(entries):
                yield f"{folder} is empty; put the data there, or give the folder that contains the data"
    except OSError as error:
        yield f"cannot read {folder}: {error.strerror}; give a readable folder"


def unwritable(folder: RunFolder) -> list[str]:
    """Say which of the folders that a run writes to may not be written; who only looks needs none of them."""
    return [
        f"cannot write {target}: {there} is not writable; give another folder"
        for target, there in _targets(folder)
        if there.is_dir() and not os.access(there, os.W_OK | os.X_OK)
    ]


def _targets(folder: RunFolder) -> list[tuple[Path, Path]]:
    """Run folder and cache, each with what is there of it: itself or one above. One where the same is there of both."""
    targets = (folder.path.absolute(), Cache.beside(folder.path).folder)
    there = [next(path for path in (target, *target.parents) if os.access(path, os.F_OK)) for target in targets]
    return list({found: (target, found) for target, found in reversed([*zip(targets, there, strict=True)])}.values())


def _of_scheduler(address: str) -> Iterator[str]:
    """Say that nothing answers where a Dask scheduler should be."""
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls"):
        return
    try:
        socket.create_connection((parts.hostname, parts.port or _DASK), _PATIENCE).close()
    except (OSError, ValueError) as error:  # ValueError: there is no such port
        how = f"start one: dask scheduler, and dask worker {address}"
        reason = getattr(error, "strerror", None) or error
        yield f"compute.scheduler: no Dask scheduler answers at {address} ({reason}); {how}"
