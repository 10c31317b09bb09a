"""Rescue: find out what is to blame where a process died or hung over a volume, and save the rest of it.

A slice that ends its reader is left out. A reducer that ends its process, or takes too long, is an error of the run:
the volume is in order, and no reading may say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ctkit import compute
from ctkit.compute import Cause
from ctkit.contracts import Dataset
from ctkit.pipeline_file import Chosen
from ctkit.session import Session
from ctkit.stages.decoding import Failure, Wanted, describe_volume, read
from ctkit.stages.readings import Known, Reading, write_reading


def rescue(session: Session, lost: compute.Lost[Wanted]) -> Iterator[Failure]:
    """Describe what can be described of a volume that was lost; yield what went wrong with reducers."""
    item = lost.item
    if lost.cause is not Cause.RAISED and len(item.volume.files) > 1:
        item = _without_bad_slices(session, item)
    (alone,) = describe_each(session, [replace(item, evidence=(), store=False)], 1)
    if isinstance(alone, compute.Lost):
        write_reading(session.cache, item.address, Reading.of_nothing(len(item.volume), alone.reason))
    elif alone.result:
        yield from alone.result
    else:
        yield from _one_by_one(session, item)


def describe_each(
    session: Session, items: Iterable[Wanted], total: int
) -> Iterator[compute.Done[Wanted, tuple[Failure, ...]] | compute.Lost[Wanted]]:
    """Describe volumes in worker processes; results say what plugins did wrong."""
    work = partial(describe_volume, session.pipeline.dataset, session.cache, session.pipeline.rendering)
    yield from session.parallel("describe", work, items, total=total, name=lambda item: item.address)


def _one_by_one(session: Session, item: Wanted) -> Iterator[Failure]:
    """Do each thing that is wanted of a readable volume by itself."""
    parts = [replace(item, evidence=(chosen,), store=False) for chosen in item.evidence]
    parts += [replace(item, evidence=())] if item.store else []
    for outcome in describe_each(session, parts, len(parts)):
        if isinstance(outcome, compute.Lost):
            yield _failure(outcome)
        else:
            yield from outcome.result


def _failure(lost: compute.Lost[Wanted]) -> Failure:
    reducer = lost.item.evidence[0] if lost.item.evidence else None
    who = reducer.title if reducer else "writing the slice store"
    hint = "; raise compute.time_limit" if lost.cause is Cause.TIME else ""
    return Failure(f"{who}: {lost.reason}, on a volume of {len(lost.item.volume)} slices{hint}", reducer)


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
