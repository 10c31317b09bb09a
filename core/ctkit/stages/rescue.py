"""Rescue: find out what is to blame where a process died or hung over a volume, and save the rest of it.

A slice that ends its reader is left out. A reducer that ends its process, or takes too long, is an error of the run:
the volume is in order, and no reading may say otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from ctkit import compute
from ctkit.compute import Cause
from ctkit.contracts import Dataset
from ctkit.pipeline_file import Chosen
from ctkit.session import Session
from ctkit.stages.decoding import ENOUGH, Failure, Wanted, describe_volumes, keep, read, write_kept
from ctkit.stages.readings import Known, Reading, write_reading

TOGETHER = 64  #: volumes that a worker is given at once


def rescue(session: Session, lost: compute.Lost[Wanted]) -> Iterator[Failure]:
    """Describe what can be described of a volume that was lost; yield what went wrong with reducers."""
    item = lost.item
    if lost.cause is not Cause.RAISED and len(item.volume.files) > 1:
        item = _without_bad_slices(session, item)
    (alone,) = describe_each(session, [replace(item, evidence=(), store=False)], 1)
    if isinstance(alone, compute.Lost):
        write_reading(session.cache, item.address, Reading.of_nothing(len(item.volume), alone.reason))
        write_kept(session.cache)
    elif alone.result:
        yield from alone.result
    else:
        yield from _one_by_one(session, item)


def describe_each(
    session: Session, items: Iterable[Wanted], total: int
) -> Iterator[compute.Done[Wanted, tuple[Failure, ...]] | compute.Lost[Wanted]]:
    """Describe volumes in worker processes and keep what comes of them; results say what plugins did wrong.

    A worker is given several small volumes at once. Those that it had no time for are described later, and those that
    were lost together one by one.
    """
    most = max(1, min(TOGETHER, total // (4 * session.workers.backend.workers)))  # so that every worker has some
    lost: list[Wanted] = []
    try:
        while total:
            late: list[Wanted] = []
            yield from _in_batches(session, items, total, most, late, lost)
            items, total = late, len(late)
        yield from _in_batches(session, lost, len(lost), 1, [], [])
    finally:
        write_kept(session.cache)


def _in_batches(
    session: Session, items: Iterable[Wanted], total: int, most: int, late: list[Wanted], lost: list[Wanted]
) -> Iterator[compute.Done[Wanted, tuple[Failure, ...]] | compute.Lost[Wanted]]:
    """Describe up to ``most`` volumes at once; ``late`` gets those that there was no time for, ``lost`` those lost."""
    rest, size = iter(items), 1

    def batches() -> Iterator[tuple[Wanted, ...]]:
        while batch := tuple(islice(rest, size)):
            yield batch

    work = partial(describe_volumes, session.pipeline.dataset, session.cache, session.pipeline.rendering)
    outcomes = session.parallel(
        "describe", work, batches(), total=total, name=lambda batch: batch[0].address, weight=len
    )
    for outcome in outcomes if total else ():
        batch = outcome.item
        done, seconds = outcome.result if isinstance(outcome, compute.Done) else ([], math.inf)
        for item, found in zip(batch, done, strict=False):
            keep(session.cache, item, found)
            yield compute.Done(item, found.failures)
        if isinstance(outcome, compute.Lost) and len(batch) == 1:
            yield compute.Lost(batch[0], outcome.reason, outcome.cause)
        else:
            (late if done else lost).extend(batch[len(done) :])
        in_time = ENOUGH / 2 * len(done) / max(seconds, ENOUGH / 1000)
        size = max(1, min(most, 2 * size, int(in_time)))


def _one_by_one(session: Session, item: Wanted) -> Iterator[Failure]:
    """Do each thing that is wanted of a readable volume by itself."""
    parts = [replace(item, evidence=(chosen,), store=False) for chosen in item.evidence]
    parts += [replace(item, evidence=())] if item.store else []
    for outcome in describe_each(session, parts, len(parts)):
        if not isinstance(outcome, compute.Lost):
            yield from outcome.result
            continue
        reducer = outcome.item.evidence[0] if outcome.item.evidence else None
        who = reducer.title if reducer else "writing the slice store"
        hint = "; raise compute.time_limit" if outcome.cause is Cause.TIME else ""
        yield Failure(f"{who}: {outcome.reason}, on a volume of {len(item.volume)} slices{hint}", reducer)


def _without_bad_slices(session: Session, item: Wanted) -> Wanted:
    """Find the slices that end or hang their reader, by reading each one alone, and want the others."""
    numbers = range(len(item.volume)) if item.index is None else item.index.tolist()
    singles = [replace(item, index=np.array([number]), evidence=(), store=False) for number in numbers]
    work = partial(_try_to_read, session.pipeline.dataset)
    bad: dict[int, compute.Lost[Wanted]] = {}
    for outcome in session.parallel("describe", work, singles, total=len(singles), name=lambda one: str(one.index)):
        if isinstance(outcome, compute.Lost) and outcome.item.index is not None:
            bad[int(outcome.item.index[0])] = outcome
    if not bad:
        return item
    causes = {one.cause for one in bad.values()}
    known = Known(
        skipped=(*item.known.skipped, *((number, one.reason) for number, one in bad.items())),
        retry=any(cause.may_pass for cause in causes),
        limit=session.workers.backend.time_limit if Cause.TIME in causes else item.known.limit,
    )
    return replace(item, index=np.setdiff1d(np.array(numbers), list(bad)), known=known)


def _try_to_read(chosen: Chosen[Dataset[Any]], item: Wanted) -> None:
    read(chosen, item)
