"""How long work will take: describing from a trial on one volume, here and now; training from trainings done before."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from ctkit.compute import Done, attempt_alone
from ctkit.contracts import Dataset, Ints, Reducer, Slices
from ctkit.pipeline_file import Chosen
from ctkit.session import Session
from ctkit.slices import Catalogue
from ctkit.stages.decoding import Wanted, read_slices
from ctkit.stages.jobs import Job
from ctkit.storage import Cache, TrainingFolder
from ctkit.storage.records import TrainingFacts, read_training

TRIED = 16  #: slices; 120 pairs
LIMIT = 60.0  #: seconds after which a trial is given up


@dataclass(frozen=True)
class Cost:
    """What describing takes and leaves."""

    seconds: float
    size: int  #: of the evidence, bytes


@dataclass(frozen=True)
class _UnitCost:
    """What reading, or one reducer, takes and leaves for each slice or pair of slices."""

    kind: Literal["slice", "pair"]
    on_accelerator: bool  #: worker processes do not have it, so more of them do not make it faster
    seconds: float
    size: float  #: bytes


def describing(
    session: Session, catalogue: Catalogue, volumes: list[int], reducers: list[Chosen[Reducer[Any]]]
) -> Cost | None:
    """Estimate what describing these volumes for these reducers costs; None where the trial volume cannot be read.

    The trial has a process to itself, as any volume may end the one that reads it. It leaves nothing behind.
    """
    typical = sorted(volumes, key=lambda number: int(catalogue.counts[number]))[len(volumes) // 2]
    middle = int(catalogue.counts[typical]) // 2
    index = np.arange(max(0, middle - TRIED // 2), min(int(catalogue.counts[typical]), middle + TRIED // 2))
    item = Wanted(typical, catalogue.address(typical), catalogue[typical], index)
    work = partial(_try, session.pipeline.dataset, reducers, session.device)
    outcome = attempt_alone(work, item, LIMIT)
    if not isinstance(outcome, Done) or outcome.result is None:
        return None
    workers, accelerators = session.workers.backend.workers, session.device_pool.at_once(len(volumes))
    return _scaled(outcome.result, catalogue.counts[volumes], workers, accelerators)


def trainings(cache: Cache) -> list[TrainingFacts]:
    """Facts of every training in the cache."""
    found = (read_training(TrainingFolder(entry).facts) for entry in cache.folder.glob("pretrain/*/*"))
    return [facts for facts in found if facts]  # a damaged one says nothing


def training(before: list[TrainingFacts], job: Job, device: str, steps: int, at_once: int = 1) -> float | None:
    """Seconds of that many steps, at the pace of the training ``before`` that is most like it; None without such.

    Like are trainings by the same method on the same kind of device, by parameters that let a step take as long; on
    the CPU, whose cores they share, also those that were done as many ``at_once``.
    """
    name, pace = job.plan.method.entry.name, job.plan.method.pace
    slices = int(job.selected.selection.kept.sum())
    alike = [
        facts
        for facts in before
        if (facts["method"], facts["device"]) == (name, device)
        and (device != "cpu" or facts.get("jobs", 1) == at_once)
        and all(facts["parameters"].get(key) == value for key, value in pace.items())
    ]
    if not alike:
        return None
    nearest = min(alike, key=lambda facts: abs(facts["slices"] - slices))
    return float(nearest["seconds"]) / max(1, int(nearest["steps"])) * steps


def altogether(seconds: list[float], at_once: int) -> float:
    """Seconds until all of some work is done, begun in its order, so much of it at once."""
    busy_until = [0.0] * at_once
    for one in seconds:
        heapq.heapreplace(busy_until, busy_until[0] + one)
    return max(busy_until)


def _scaled(trial: list[_UnitCost], counts: Ints, workers: int, accelerators: int) -> Cost:
    """Scale a trial to volumes of so many slices each."""
    units = {"slice": int(counts.sum()), "pair": int((counts * (counts - 1) // 2).sum())}
    accelerated = sum(units[rate.kind] * rate.seconds for rate in trial if rate.on_accelerator)
    shared = sum(units[rate.kind] * rate.seconds for rate in trial if not rate.on_accelerator)
    size = sum(units[rate.kind] * rate.size for rate in trial)
    return Cost(shared / workers + accelerated / accelerators, int(size))


def _try(
    dataset: Chosen[Dataset[Any]], reducers: list[Chosen[Reducer[Any]]], device: str, item: Wanted
) -> list[_UnitCost] | None:
    """Read and describe the slices of ``item``. Runs in a process of its own."""
    slices, seconds = _read(dataset, item)
    described = _middle(slices)
    if len(described.index) < 2:
        return None
    reading = _UnitCost("slice", False, seconds / len(slices.index), 0)
    return [reading, *(_rate(chosen.build(), described, device) for chosen in reducers)]


def _read(dataset: Chosen[Dataset[Any]], item: Wanted) -> tuple[Slices, float]:
    """Read the slices of ``item`` and say how long it took: of a volume in one file all, once.

    Of a compressed file a few slices take as long as all of them.
    """
    if len(item.volume.files) == 1:
        item = replace(item, index=None)
    else:
        read_slices(dataset, item)  # with imports
    (slices, _), seconds = _timed(lambda: read_slices(dataset, item))
    return slices, seconds


def _middle(slices: Slices) -> Slices:
    """The ``TRIED`` slices in the middle."""
    start = max(0, (len(slices.index) - TRIED) // 2)
    chosen = slice(start, start + TRIED)
    hu = None if slices.hu is None else slices.hu[chosen]
    return replace(slices, grey=slices.grey[chosen], hu=hu, index=slices.index[chosen])


def _rate(reducer: Reducer[Any], slices: Slices, device: str) -> _UnitCost:
    n = len(slices.index)
    on_accelerator = device != "cpu" and reducer.device == "accelerator"
    placed = replace(slices, device=device if on_accelerator else "cpu")
    reducer.describe(placed)  # with imports
    evidence, seconds = _timed(lambda: reducer.describe(placed))
    if reducer.evidence == "pair":
        pairs = n * (n - 1) // 2
        return _UnitCost("pair", on_accelerator, seconds / pairs, evidence.nbytes / pairs)
    return _UnitCost("slice", on_accelerator, seconds / n, evidence.nbytes / n)


def _timed(do: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = do()
    return result, time.perf_counter() - start
