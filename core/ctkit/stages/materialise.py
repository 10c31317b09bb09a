"""Materialise: decode what some arm keeps, once, into the slice store, and give each arm its rows."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ctkit import compute
from ctkit.contracts import Bools, Dataset, Ints, Rows
from ctkit.errors import DataError
from ctkit.pipeline_file import Chosen, Rendering
from ctkit.session import Session
from ctkit.slices import Catalogue, Selection, Shard, SliceStore, Table, gather
from ctkit.stages.data import Data, Shards
from ctkit.stages.decoding import Wanted, read, store_slices
from ctkit.stages.readings import read_reading
from ctkit.storage import Cache


def materialise(session: Session, data: Data, selections: Iterable[Selection], *, noted: bool = True) -> Data:
    """Store the slices that any of the selections keeps, and return the data with where they lie.

    Who only reads a run does so without it being ``noted`` in ``run.json``. Raises ``DataError`` where one cannot be
    read any more.
    """
    catalogue, table, kept = data.catalogue, data.table, np.zeros(len(data.table), bool)
    for chosen in selections:
        kept |= chosen.kept
    find = partial(_find, slice_store(session), session, catalogue)
    wanted = by_volume(table, kept)
    shards = {number: find(number, index) for number, index in wanted.items()}
    missing = [number for number, shard in shards.items() if shard is None]
    if not missing:
        session.cached("materialise")
    else:
        with session.work("materialise") if noted else nullcontext():
            _store(session, catalogue, {number: wanted[number] for number in missing})
        shards |= {number: find(number, wanted[number]) for number in missing}
    lost = [number for number, shard in shards.items() if shard is None]
    if lost:
        raise DataError(f"slices of {len(lost)} volumes could not be read a second time; were files changed?")
    return replace(data, shards={number: shard for number, shard in shards.items() if shard is not None})


def slice_store(session: Session) -> SliceStore:
    """The slice store for the rendering of the session."""
    return SliceStore(session.cache, session.pipeline.rendering.model_dump(mode="json"))


def rows_in_store(store: SliceStore, session: Session, data: Data, chosen: Selection) -> Rows | None:
    """Return a selection's rows if the store still has them all; decodes nothing."""
    shards: dict[int, Shard] = {}
    for number, index in by_volume(data.table, chosen.kept).items():
        shard = _find(store, session, data.catalogue, number, index)
        if shard is None:
            return None
        shards[number] = shard
    return rows_of(data.table, chosen, shards, session.pipeline.rendering.size)


def rows_of(table: Table, chosen: Selection, shards: Shards, size: int) -> Rows:
    """Return an arm's rows in the store, in the order of the table."""
    parts = [(number, shards[number], index) for number, index in by_volume(table, chosen.kept).items()]
    return gather(parts, size)


def _find(store: SliceStore, session: Session, catalogue: Catalogue, number: int, index: Ints) -> Shard | None:
    """Return the shard that holds slices of a volume as they look now."""
    return store.find(shown_address(session, catalogue, number), index)


def shown_address(session: Session, catalogue: Catalogue, number: int) -> str:
    """Address of a volume as training sees it."""
    volume = catalogue.address(number)
    reading = read_reading(session.cache, volume)
    return volume if reading is None else reading.shown(volume, session.pipeline.rendering.levels)


def by_volume(table: Table, kept: Bools) -> dict[int, Ints]:
    """Kept slices' numbers in their volume, for each volume that has any."""
    numbers = np.flatnonzero(kept)
    if not numbers.size:
        return {}
    pieces = np.split(numbers, np.flatnonzero(np.diff(table.volume[numbers])) + 1)
    return {int(table.volume[piece[0]]): table.index[piece] for piece in pieces}


def _store(session: Session, catalogue: Catalogue, wanted: dict[int, Ints]) -> None:
    items = (Wanted.again(session.cache, catalogue, number, index) for number, index in wanted.items())
    work = partial(_store_volume, session.pipeline.dataset, session.cache, session.pipeline.rendering)
    outcomes = session.parallel("materialise", work, items, total=len(wanted), name=lambda item: item.address)
    for outcome in outcomes:
        if isinstance(outcome, compute.Lost):
            session.console.warn(f"a volume could not be stored: {outcome.reason}")


def _store_volume(chosen: Chosen[Dataset[Any]], cache: Cache, look: Rendering, item: Wanted) -> None:
    """Write the wanted slices of a volume, rendered by what all of its slices span. Runs in a worker process."""
    pixels = read(chosen, item)
    if pixels.index.size and item.reading is not None:
        store_slices(cache, look, item.address, pixels, item.reading)
