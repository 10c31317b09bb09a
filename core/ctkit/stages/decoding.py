"""Decoding: one volume becomes pixels, and these its reading, evidence and rows of the slice store."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Dataset, Ints, Pixels, Reducer, Slices, Volume
from ctkit.contracts.judge import Judge
from ctkit.errors import PASSING, DataError, PluginError
from ctkit.files import writing
from ctkit.pipeline_file import Chosen, Rendering
from ctkit.promises import check_pixels
from ctkit.slices import SliceStore, rendering
from ctkit.stages.readings import NOTHING_KNOWN, Known, Reading, write_reading
from ctkit.storage import ENTRY, Cache, address

NOT_FINITE = "has NaN or infinite values, which the data set plugin must fill or skip"
Decoded = tuple[Slices, Reading]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is to be made of one volume in one decode."""

    number: int
    address: str
    volume: Volume
    index: Ints | None  #: slices to read; None for all
    evidence: tuple[Chosen[Reducer[Any]], ...] = ()
    store: bool = False  #: also write what is read to the store
    known: Known = NOTHING_KNOWN  #: of the others


@dataclass(frozen=True)
class Failure:
    """What a plugin did wrong with a volume."""

    reason: str
    reducer: Chosen[Reducer[Any]] | None = None  #: None where it is not a reducer's


def evidence_path(cache: Cache, chosen: Chosen[Reducer[Any]], volume: str, reading: Reading) -> Path:
    """Where the evidence of a reducer on the readable slices of the volume with address ``volume`` is or would be."""
    looks = {"reducer": chosen.evidence_identity, "rendering": rendering.VERSION}
    at = address("evidence", **looks, volume=volume, slices=reading.mark)
    return cache.path("evidence", at, ENTRY)


def describe_volume(chosen: Chosen[Dataset[Any]], cache: Cache, look: Rendering, item: Wanted) -> tuple[Failure, ...]:
    """Read one volume, write what is wanted of it, and last its reading. Runs in a worker process.

    Returns what plugins did wrong: that is no fault of the volume, and must not count as one.
    """
    try:
        pixels = read(chosen, item)
        reading = Reading.of(len(item.volume), pixels, item.known)
    except PluginError as error:
        return (Failure(str(error)),)
    failures = _write_evidence(cache, item, reading, as_slices(pixels)) if pixels.index.size and item.evidence else ()
    if pixels.index.size and item.store:
        store_slices(cache, look, item.address, pixels, reading)
    write_reading(cache, item.address, reading)
    return tuple(failures)


def as_slices(pixels: Pixels) -> Slices:
    """Render pixels as reducers see them."""
    hu = pixels.values if pixels.unit == "HU" else None
    return Slices(rendering.evidence(pixels.values), hu, pixels.index)


def _write_evidence(cache: Cache, item: Wanted, reading: Reading, slices: Slices) -> list[Failure]:
    failures = []
    for chosen in item.evidence:
        path = evidence_path(cache, chosen, item.address, reading)
        if not path.exists():
            try:
                write_evidence(path, evidence_of(chosen, slices, cache.pseudonym(item.volume.key)))
            except PluginError as error:
                failures.append(Failure(str(error), chosen))
    return failures


def evidence_of(chosen: Chosen[Reducer[Any]], slices: Slices, volume: str) -> NDArray[Any]:
    """Describe one volume, called ``volume`` in messages.

    Raises ``PluginError`` where the reducer fails or returns what it must not.
    """
    name, reducer, n = chosen.entry.name, chosen.build(), len(slices.index)
    try:
        evidence: NDArray[Any] = np.asarray(reducer.describe(slices))
    except PASSING:
        raise
    except BaseException as error:  # a stranger's reducer may raise anything
        _log.debug("describing failed", exc_info=True)
        raise PluginError(
            f"reducer {name!r} failed to describe a volume: {PluginError.words_of(error)} (volume {volume})"
        ) from error
    expected = (n,) if reducer.evidence == "slice" else (n * (n - 1) // 2,)
    of_pairs = reducer.evidence == "pair" and evidence.ndim != 1
    if evidence.shape[:1] != expected or of_pairs or evidence.dtype.hasobject:
        raise PluginError(
            f"reducer {name!r} must describe {n} slices by numbers ({expected[0]}, ...) for evidence"
            f" {reducer.evidence!r}, but returned {evidence.shape} {evidence.dtype} (volume {volume})"
        )
    if evidence.dtype.kind in "fc" and not np.isfinite(evidence).all():
        raise PluginError(
            f"reducer {name!r} must describe slices by finite numbers, but its evidence of volume {volume} has NaN or"
            " infinite values; define the evidence of slices without contrast, and raise the version of the reducer"
        )
    return evidence


def write_evidence(path: Path, evidence: NDArray[Any]) -> None:
    """Write the evidence of one volume, whole or not at all."""
    with writing(path, sealed=True) as temporary, temporary.open("wb") as file:
        np.save(file, evidence, allow_pickle=False)


def store_slices(cache: Cache, look: Rendering, volume: str, pixels: Pixels, reading: Reading) -> None:
    """Render pixels of a volume that reads so and write them to the store, unless they are there."""
    store, shown = SliceStore(cache, look.model_dump(mode="json")), reading.shown(volume, look.levels)
    if store.find(shown, pixels.index) is None:
        rows = rendering.training(pixels.values, pixels.unit, look.levels, look.size, reading.span)
        store.write(shown, pixels.index, rows)


def read(chosen: Chosen[Dataset[Any]], item: Wanted) -> Pixels:
    """Read the wanted slices; where not one can be read, all come back as skipped, as do slices that are not finite.

    Raises ``PluginError`` where the data set returns what it must not.
    """
    asked = np.arange(len(item.volume)) if item.index is None else item.index
    try:
        pixels = chosen.build().read(item.volume, item.index)
    except DataError as error:
        nothing = np.zeros((0, item.volume.rows, item.volume.columns), np.int16)
        skipped = tuple((number, str(error)) for number in asked.tolist())
        return Pixels(nothing, np.zeros(0, np.int64), "HU", skipped, retry=error.retry)
    check_pixels(Judge(chosen.title, PluginError), item.volume, pixels, asked)
    return _finite(pixels)


def _finite(pixels: Pixels) -> Pixels:
    """Leave out the slices that hold values which are infinite or NaN: one would darken all of its volume."""
    if pixels.values.dtype.kind != "f":
        return pixels
    good = np.isfinite(pixels.values).all(axis=(1, 2))
    if good.all():
        return pixels
    skipped = tuple((number, NOT_FINITE) for number in pixels.index[~good].tolist())
    return replace(pixels, values=pixels.values[good], index=pixels.index[good], skipped=(*pixels.skipped, *skipped))


def read_slices(chosen: Chosen[Dataset[Any]], item: Wanted) -> Decoded:
    """Read one volume's slices. Runs in a worker process."""
    pixels = read(chosen, item)
    return as_slices(pixels), Reading.of(len(item.volume), pixels, item.known)
