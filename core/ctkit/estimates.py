"""How long work will take: describing from a trial on one volume, here and now; training from trainings done before."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ctkit.catalogue import Catalogue
from ctkit.compute import alone, worker
from ctkit.contracts import Dataset, Ints, Reducer, Slices
from ctkit.plan import Chosen
from ctkit.stages.describe import Wanted, read_slices
from ctkit.stages.pretrain import FACTS, Job

if TYPE_CHECKING:
    from ctkit.session import Session

TRIED = 16  #: slices; 120 pairs
LIMIT = 60.0  #: seconds after which a trial is given up


@dataclass(frozen=True)
class Cost:
    """What describing takes and leaves."""

    seconds: float
    size: int  #: of the evidence, bytes


@dataclass(frozen=True)
class _Rate:
    """What one reducer takes and leaves for each slice or pair of slices."""

    kind: Literal["slice", "pair"]
    on_accelerator: bool  #: one process has it, so more workers do not make it faster
    seconds: float
    size: float  #: bytes


@dataclass(frozen=True)
class _Trial:
    reading: float  #: seconds a slice
    rates: tuple[_Rate, ...]


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
    outcome = alone.attempt(worker.pickled(work), worker.pickled(item), LIMIT)
    if not isinstance(outcome, worker.Returned) or outcome.result is None:
        return None
    return _scaled(outcome.result, catalogue.counts[volumes], session.workers.backend.workers)


def training(session: Session, job: Job, steps: int) -> float | None:
    """Seconds of that many steps, at the pace of the cached training most like it; None where there is none.

    Like are trainings by the same method with the same parameters on the same kind of device.
    """
    method = job.plan.method
    wanted = (method.entry.name, method.params.model_dump(mode="json"), session.device)
    slices = int(job.selected.selection.kept.sum())
    done = [json.loads(path.read_text(encoding="utf-8")) for path in session.cache.folder.glob(f"pretrain/*/*/{FACTS}")]
    alike = [facts for facts in done if (facts["method"], facts["parameters"], facts["device"]) == wanted]
    if not alike:
        return None
    nearest: dict[str, Any] = min(alike, key=lambda facts: abs(facts["slices"] - slices))
    return float(nearest["seconds"]) / max(1, int(nearest["steps"])) * steps


def _scaled(trial: _Trial, counts: Ints, workers: int) -> Cost:
    """Scale a trial to volumes of so many slices each."""
    units = {"slice": int(counts.sum()), "pair": int((counts * (counts - 1) // 2).sum())}
    alone_, shared = 0.0, units["slice"] * trial.reading
    for rate in trial.rates:
        if rate.on_accelerator:
            alone_ += units[rate.kind] * rate.seconds
        else:
            shared += units[rate.kind] * rate.seconds
    return Cost(shared / workers + alone_, int(sum(units[rate.kind] * rate.size for rate in trial.rates)))


def _try(
    dataset: Chosen[Dataset[Any]], reducers: list[Chosen[Reducer[Any]]], device: str, item: Wanted
) -> _Trial | None:
    """Read and describe the slices of ``item``, each once before it is timed. Runs in a process of its own."""
    (slices, _), reading = _timed(lambda: read_slices(dataset, item))
    n = len(slices.index)
    return _Trial(reading / n, tuple(_rate(chosen.build(), slices, device) for chosen in reducers)) if n > 1 else None


def _rate(reducer: Reducer[Any], slices: Slices, device: str) -> _Rate:
    n = len(slices.index)
    on_accelerator = device != "cpu" and reducer.device == "accelerator"
    placed = replace(slices, device=device if on_accelerator else "cpu")
    evidence, seconds = _timed(lambda: reducer.describe(placed))
    if reducer.evidence == "pair":
        pairs = n * (n - 1) // 2
        return _Rate("pair", on_accelerator, seconds / pairs, evidence.nbytes / pairs)
    return _Rate("slice", on_accelerator, seconds / n, evidence.nbytes / n)


def _timed(do: Callable[[], Any]) -> tuple[Any, float]:
    """Do something twice; return what came of it and the seconds of the second time, which needs no imports."""
    do()
    start = time.perf_counter()
    result = do()
    return result, time.perf_counter() - start
