"""Decoding: one volume becomes pixels, and these its reading, evidence and rows of the slice store."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
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
    whole = cache.path("evidence", address("evidence", **looks, volume=volume, slices=reading.mark), ENTRY)
    if chosen.at is None or whole.exists():
        return whole
    return cache.path("evidence", address("evidence", **looks, at=chosen.at, volume=volume, slices=reading.mark), ENTRY)


def describe_volume(chosen: Chosen[Dataset[Any]], cache: Cache, look: Rendering, item: Wanted) -> tuple[Failure, ...]:
    """Read one volume, write what is wanted of it, and last its reading. Runs in a worker process.

    Returns what plugins did wrong: that is no fault of the volume, and must not count as one.
    """
    try:
        if not item.store and all(one.build().by_slice for one in item.evidence):
            return tuple(_describe_in_blocks(chosen, cache, item))
        pixels = read(chosen, item)
        reading = Reading.of(len(item.volume), pixels, item.known)
    except PluginError as error:
        return (Failure(str(error)),)
    failures = _write_evidence(cache, item, reading, as_slices(pixels)) if pixels.index.size and item.evidence else ()
    if pixels.index.size and item.store:
        store_slices(cache, look, item.address, pixels, reading)
    write_reading(cache, item.address, reading)
    return tuple(failures)


def _describe_in_blocks(chosen: Chosen[Dataset[Any]], cache: Cache, item: Wanted) -> Iterator[Failure]:
    """Describe a volume by reducers that look at each slice by itself: few pixels at a time are in memory.

    Raises ``PluginError`` where the data set returns what it must not.
    """
    blocks, name = list[Pixels](), cache.pseudonym(item.volume.key)
    found: list[list[NDArray[Any]]] = [[] for _ in item.evidence]
    failures: dict[int, Failure] = {}
    reducers = [reducer.build() for reducer in item.evidence]
    for pixels in _read(chosen, item, whole=False):
        blocks.append(replace(pixels, values=np.empty((0, *pixels.values.shape[1:]))))
        slices = as_slices(pixels) if pixels.index.size and item.evidence else None
        for number, reducer in enumerate(item.evidence):
            try:
                if slices is not None and number not in failures:
                    found[number].append(
                        evidence_of(reducer, slices, name, reducers[number]).copy()
                    )  # it may be a view of what comes next
            except PluginError as error:
                failures[number] = Failure(str(error), reducer)
    reading = Reading.of(len(item.volume), _joined(blocks), item.known)
    for number, reducer in enumerate(item.evidence):
        path = evidence_path(cache, reducer, item.address, reading)
        if found[number] and number not in failures and not path.exists():
            write_evidence(path, np.concatenate(found[number]))
    write_reading(cache, item.address, reading)
    yield from failures.values()


def _joined(blocks: list[Pixels]) -> Pixels:
    """Return what is known of all blocks of a volume, without its pixels."""
    return replace(
        blocks[0],
        index=np.concatenate([block.index for block in blocks]),
        skipped=tuple(itertools.chain(*(block.skipped for block in blocks))),
        retry=any(block.retry for block in blocks),
        ends=np.concatenate([block.ends for block in blocks if block.ends is not None]),
    )


def as_slices(pixels: Pixels) -> Slices:
    """Render pixels as reducers see them."""
    hu = pixels.values if pixels.unit == "HU" else None
    return Slices(rendering.evidence(pixels.values, pixels.ends), hu, pixels.index)


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


def evidence_of(
    chosen: Chosen[Reducer[Any]], slices: Slices, volume: str, reducer: Reducer[Any] | None = None
) -> NDArray[Any]:
    """Describe one volume, called ``volume`` in messages, by what ``chosen`` has built where that is known.

    Raises ``PluginError`` where the reducer fails or returns what it must not.
    """
    name, reducer, n = chosen.entry.name, reducer or chosen.build(), len(slices.index)
    try:
        evidence: NDArray[Any] = np.asarray(reducer.describe(replace(slices, at=chosen.at)))
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
    wrong = np.isinf if reducer.describes_at and chosen.at is not None else lambda found: ~np.isfinite(found)
    if evidence.dtype.kind in "fc" and wrong(evidence).any():
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
    (pixels,) = _read(chosen, item, whole=True)
    return pixels


def _read(chosen: Chosen[Dataset[Any]], item: Wanted, *, whole: bool) -> Iterator[Pixels]:
    """Yield the wanted slices in blocks, or as a ``whole``, with the ends of each."""
    asked = np.arange(len(item.volume)) if item.index is None else item.index
    dataset, judge, what = chosen.build(), Judge(chosen.title, PluginError), (item.volume, item.index)
    try:
        for pixels in [dataset.read(*what)] if whole else dataset.read_blocks(*what):
            is_block = not whole and isinstance(pixels, Pixels)
            count = len(pixels.index) + len(pixels.skipped) if is_block else len(asked)
            check_pixels(judge, item.volume, pixels, asked[:count])
            asked = asked[count:]
            finite = _finite(pixels)
            yield finite if finite.ends is not None else replace(finite, ends=rendering.ends_of(finite.values))
    except DataError as error:
        nothing = np.zeros((0, item.volume.rows, item.volume.columns), np.int16)
        skipped = tuple((number, str(error)) for number in asked.tolist())
        yield Pixels(nothing, np.zeros(0, np.int64), "HU", skipped, error.retry, ends=np.zeros((0, 2)))
        asked = asked[:0]
    judge.must(not len(asked), f"read_blocks must give or skip each slice, but {len(asked)} are missing; yield them")


def _finite(pixels: Pixels) -> Pixels:
    """Leave out the slices that hold values which are infinite or NaN: one would darken all of its volume."""
    if pixels.values.dtype.kind != "f":
        return pixels
    good = np.isfinite(pixels.values).all(axis=(1, 2))
    if good.all():
        return pixels
    skipped = tuple((number, NOT_FINITE) for number in pixels.index[~good].tolist())
    ends = None if pixels.ends is None else pixels.ends[good]
    left = (*pixels.skipped, *skipped)
    return replace(pixels, values=pixels.values[good], index=pixels.index[good], skipped=left, ends=ends)


def read_slices(chosen: Chosen[Dataset[Any]], item: Wanted) -> Decoded:
    """Read one volume's slices. Runs in a worker process."""
    pixels = read(chosen, item)
    return as_slices(pixels), Reading.of(len(item.volume), pixels, item.known)
