"""Describe: decode each volume once, for every arm that wants evidence, and let the pixels go.

Beside the evidence each volume leaves a *reading*: which of its slices can be read, and why the others cannot. Where an
arm keeps every slice, the slice store is filled in the same pass.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctkit import compute, rendering
from ctkit.cache import Cache, address
from ctkit.catalogue import Catalogue
from ctkit.contracts import Dataset, Ints, Pixels, Reducer, Slices, Volume
from ctkit.errors import CtkitError, DataError
from ctkit.files import write_json, writing
from ctkit.plan import Arm, Chosen
from ctkit.sections import Rendering
from ctkit.store import SliceStore

if TYPE_CHECKING:
    from ctkit.session import Session

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """Which slices of a volume can be read."""

    index: Ints  #: (m,) numbers of the readable slices, ascending
    skipped: tuple[tuple[int, str], ...]  #: number and reason of each of the others


@dataclass(frozen=True)
class Wanted:
    """What is to be made of one volume in one decode."""

    number: int
    address: str
    volume: Volume
    index: Ints | None  #: slices to read; None for all
    evidence: tuple[Chosen[Reducer[Any]], ...]
    store: bool  #: also write every readable slice to the store


def describe(session: Session, catalogue: Catalogue) -> list[Reading]:
    """Make the evidence that is missing; return each volume's reading, in the catalogue's order."""
    reducers = described_reducers(session)
    whole = any(arm.keeps_all and session.only.wants(arm=arm.id) for arm in session.pipeline.arms)
    everything = bool(session.pipeline.pretrains) and whole
    missing = [n for n in range(len(catalogue)) if is_missing(session.cache, catalogue.address(n), reducers)]
    if not missing:
        session.cached("describe")
        return [read_reading(session.cache, catalogue.address(number)) for number in range(len(catalogue))]
    in_workers = [c for c in reducers if session.device == "cpu" or c.build().device == "cpu"]
    with session.work("describe"):
        _decode_all(session, catalogue, missing, partial(_wanted, session, catalogue, in_workers, everything))
        for chosen in reducers:
            if chosen not in in_workers:
                _describe_on_accelerator(session, catalogue, chosen)
    return [read_reading(session.cache, catalogue.address(number)) for number in range(len(catalogue))]


def described_reducers(session: Session) -> list[Chosen[Reducer[Any]]]:
    """Return the reducers of all arms that look at pixels, each once."""
    return reducers_of(session.pipeline.arms)


def reducers_of(arms: Iterable[Arm]) -> list[Chosen[Reducer[Any]]]:
    """Return the reducers of some arms that look at pixels, each once."""
    steps = (step.reducer for arm in arms for step in arm.steps)
    looking = (chosen for chosen in steps if chosen.build().evidence != "none")
    return list({address("reducer", **chosen.evidence_identity): chosen for chosen in looking}.values())


def evidence_path(cache: Cache, chosen: Chosen[Reducer[Any]], volume: str) -> Path:
    """Where the evidence of a reducer on the volume with address ``volume`` is or would be."""
    return cache.path("evidence", address("evidence", reducer=chosen.evidence_identity, volume=volume), ".npy")


def reading_path(cache: Cache, volume: str) -> Path:
    """Where the reading of the volume with address ``volume`` is or would be."""
    return cache.path("readings", volume, ".json")


def read_reading(cache: Cache, volume: str) -> Reading:
    """Return a volume's reading."""
    found = json.loads(reading_path(cache, volume).read_text(encoding="utf-8"))
    skipped = tuple((number, reason) for number, reason in found["skipped"])
    return Reading(np.setdiff1d(np.arange(found["slices"]), [number for number, _ in skipped]), skipped)


def _write_reading(cache: Cache, volume: str, slices: int, skipped: Iterable[tuple[int, str]]) -> None:
    write_json(reading_path(cache, volume), {"slices": slices, "skipped": sorted(skipped)})


# --- what is missing ----------------------------------------------------------------------------------------------


def is_missing(cache: Cache, volume: str, reducers: list[Chosen[Reducer[Any]]]) -> bool:
    """Whether a volume has to be decoded for its reading or for the evidence of one of the reducers."""
    if not reading_path(cache, volume).exists():
        return True
    made = all(evidence_path(cache, chosen, volume).exists() for chosen in reducers)
    return not made and bool(read_reading(cache, volume).index.size)


def _wanted(
    session: Session, catalogue: Catalogue, reducers: list[Chosen[Reducer[Any]]], everything: bool, number: int
) -> Wanted:
    at = catalogue.address(number)
    known = reading_path(session.cache, at).exists()
    index = read_reading(session.cache, at).index if known else None
    missing = tuple(chosen for chosen in reducers if not evidence_path(session.cache, chosen, at).exists())
    return Wanted(number, at, catalogue[number], index, missing, everything)


# --- decoding -----------------------------------------------------------------------------------------------------


def _decode_all(session: Session, catalogue: Catalogue, numbers: list[int], wanted: Callable[[int], Wanted]) -> None:
    """Decode volumes in worker processes; a volume that kills its worker is tried again without the guilty slice."""
    work = partial(describe_volume, session.pipeline.dataset, session.cache.folder, session.pipeline.rendering)
    items = map(wanted, numbers)
    retry: list[Wanted] = []
    for outcome in session.parallel("describe", work, items, total=len(numbers), name=lambda item: item.address):
        if isinstance(outcome, compute.Lost):
            retry.append(_without_guilty_slices(session, outcome))
        elif outcome.result:
            raise CtkitError(outcome.result)
    alone = session.parallel("describe", work, retry, total=len(retry), name=lambda item: item.address) if retry else ()
    for outcome in alone:
        if isinstance(outcome, compute.Lost):
            _give_up(session.cache, outcome.item, outcome.reason)


def describe_volume(chosen: Chosen[Dataset[Any]], cache_folder: Path, look: Rendering, item: Wanted) -> str:
    """Read one volume, write what is wanted of it, and last its reading. Runs in a worker process.

    Returns what a reducer did wrong: that is no fault of the volume, and must not count as one.
    """
    cache = Cache(cache_folder)
    pixels = _read(chosen, item)
    if pixels.index.size and item.evidence:
        slices = as_slices(pixels)
        for reducer in item.evidence:
            try:
                evidence = reducer.build().describe(slices)
            except Exception as error:  # a stranger's reducer may raise anything
                _log.debug("describing failed", exc_info=True)
                return f"reducer {reducer.entry.name!r} failed to describe a volume: {type(error).__name__}: {error}"
            write_evidence(cache, reducer, item.address, evidence)
        del slices
    if pixels.index.size and item.store:
        store_slices(cache, look, item.address, pixels)
    _note_reading(cache, item, pixels)
    return ""


def as_slices(pixels: Pixels) -> Slices:
    """Render pixels as reducers see them."""
    hu = pixels.values if pixels.unit == "HU" else None
    return Slices(rendering.evidence(pixels.values), hu, pixels.index)


def write_evidence(cache: Cache, chosen: Chosen[Reducer[Any]], volume: str, evidence: Any) -> None:
    """Write the evidence of one volume, whole or not at all."""
    with writing(evidence_path(cache, chosen, volume)) as temporary, temporary.open("wb") as file:
        np.save(file, evidence, allow_pickle=False)


def store_slices(cache: Cache, look: Rendering, volume: str, pixels: Pixels) -> None:
    """Render pixels for training and write them to the slice store, unless they are there."""
    store = SliceStore(cache, look.model_dump(mode="json"))
    if store.find(volume, pixels.index) is None:
        rows = rendering.training(pixels.values, pixels.unit, look.levels, look.size)
        store.write(volume, pixels.index, rows)


def _read(chosen: Chosen[Dataset[Any]], item: Wanted) -> Pixels:
    try:
        pixels = chosen.build().read(item.volume, item.index)
    except DataError as error:
        asked = range(len(item.volume)) if item.index is None else item.index.tolist()
        nothing = np.zeros((0, item.volume.rows, item.volume.columns), np.int16)
        skipped = tuple((number, str(error)) for number in asked)
        return Pixels(nothing, np.zeros(0, np.int64), "HU", skipped)
    return pixels


def _note_reading(cache: Cache, item: Wanted, pixels: Pixels) -> None:
    path = reading_path(cache, item.address)
    if not path.exists():
        _write_reading(cache, item.address, len(item.volume), pixels.skipped)
    elif item.index is not None and len(pixels.index) != len(item.index):
        raise DataError("files of this volume changed while the run was going on")


# --- slices that kill ---------------------------------------------------------------------------------------------


def _without_guilty_slices(session: Session, lost: compute.Lost[Wanted]) -> Wanted:
    """Find the slices of a volume that kill or hang their reader, note them, and want the others."""
    item = lost.item
    if not lost.deadly or len(item.volume.files) < 2:
        _give_up(session.cache, item, lost.reason)
        return replace(item, index=np.zeros(0, np.int64), evidence=(), store=False)
    numbers = range(len(item.volume)) if item.index is None else item.index.tolist()
    singles = [replace(item, index=np.array([number]), evidence=(), store=False) for number in numbers]
    work = partial(_skipped_of, session.pipeline.dataset)
    guilty: dict[int, str] = {}
    outcomes = session.parallel("describe", work, singles, total=len(singles), name=lambda one: str(one.index))
    for outcome in outcomes:
        if isinstance(outcome, compute.Done):
            guilty.update(outcome.result)
        elif outcome.item.index is not None:
            guilty[int(outcome.item.index[0])] = outcome.reason
    _write_reading(session.cache, item.address, len(item.volume), guilty.items())
    return replace(item, index=np.setdiff1d(np.array(numbers), list(guilty)))


def _skipped_of(chosen: Chosen[Dataset[Any]], item: Wanted) -> tuple[tuple[int, str], ...]:
    return _read(chosen, item).skipped


def _give_up(cache: Cache, item: Wanted, reason: str) -> None:
    _write_reading(cache, item.address, len(item.volume), [(n, reason) for n in range(len(item.volume))])


# --- accelerator --------------------------------------------------------------------------------------------------


def _describe_on_accelerator(session: Session, catalogue: Catalogue, chosen: Chosen[Reducer[Any]]) -> None:
    """Describe in this process, which owns the accelerator, while worker processes decode for it."""
    reducer = chosen.build()
    items = list(_still_wanted(session.cache, catalogue, chosen))
    work = partial(read_slices, session.pipeline.dataset)
    for outcome in session.parallel("describe", work, items, total=len(items), name=lambda item: item.address):
        if isinstance(outcome, compute.Lost):
            _give_up(session.cache, outcome.item, outcome.reason)
        else:
            slices = replace(outcome.result, device=session.device)
            write_evidence(session.cache, chosen, outcome.item.address, reducer.describe(slices))


def _still_wanted(cache: Cache, catalogue: Catalogue, chosen: Chosen[Reducer[Any]]) -> Iterator[Wanted]:
    for number in range(len(catalogue)):
        at = catalogue.address(number)
        index = read_reading(cache, at).index
        if index.size and not evidence_path(cache, chosen, at).exists():
            yield Wanted(number, at, catalogue[number], index, (), False)


def read_slices(chosen: Chosen[Dataset[Any]], item: Wanted) -> Slices:
    """Read one volume's slices. Runs in a worker process."""
    return as_slices(_read(chosen, item))
