"""Decoding: one volume becomes pixels, and these its reading, evidence and rows of the slice store."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Dataset, Ints, Pixels, Reducer, Slices, Volume
from ctkit.contracts.judge import Judge, form_of
from ctkit.errors import DataError, PluginError
from ctkit.pipeline_file import Chosen, Rendering
from ctkit.promises import check_pixels
from ctkit.slices import Catalogue, SliceStore, packed, rendering
from ctkit.stages.readings import NOTHING_KNOWN, Known, Reading, read_reading, write_reading
from ctkit.storage import Cache, address

NOT_FINITE = "has NaN or infinite values, which the data set plugin must fill or skip"
ENOUGH = 2.0  #: seconds after which a worker hands over what it has described
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
    reading: Reading | None = None  #: where it is known, for renderings that need the span of the volume's values

    @classmethod
    def again(cls, cache: Cache, catalogue: Catalogue, number: int, index: Ints) -> Wanted:
        """Some slices of a volume that was described."""
        at = catalogue.address(number)
        return cls(number, at, catalogue[number], index, reading=read_reading(cache, at))


@dataclass(frozen=True)
class Failure:
    """What a plugin did wrong with a volume."""

    reason: str
    reducer: Chosen[Reducer[Any]] | None = None  #: None where it is not a reducer's


@dataclass(frozen=True)
class Described:
    """What came of one volume that was wanted."""

    reading: Reading | None = None  #: None where the data set plugin failed
    evidence: tuple[tuple[int, NDArray[Any]], ...] = ()  #: places in what was wanted, and the evidence
    failures: tuple[Failure, ...] = ()


def evidence_name(known: Container[str], chosen: Chosen[Reducer[Any]], volume: str, reading: Reading) -> str:
    """Address of a reducer's evidence on the readable slices of a volume; that for any knob where it is ``known``."""
    looks = {"reducer": chosen.evidence_identity, "rendering": rendering.VERSION}
    whole = address("evidence", **looks, volume=volume, slices=reading.mark)
    if chosen.at is None or whole in known:
        return whole
    return address("evidence", **looks, at=chosen.at, volume=volume, slices=reading.mark)


def describe_volumes(
    chosen: Chosen[Dataset[Any]], cache: Cache, look: Rendering, items: Sequence[Wanted]
) -> tuple[list[Described], float]:
    """Describe volumes one after the other, the later ones only while there is time. Runs in a worker process.

    Returns what came of the first ones, and the seconds that they took.
    """
    began, done = time.monotonic(), list[Described]()
    for item in items:
        if done and time.monotonic() > began + ENOUGH:
            break
        done.append(_describe_volume(chosen, cache, look, item))
    return done, time.monotonic() - began


def _describe_volume(chosen: Chosen[Dataset[Any]], cache: Cache, look: Rendering, item: Wanted) -> Described:
    """Read one volume and make what is wanted of it, its rows of the store in the cache.

    Where all reducers look at each slice by itself, few pixels at a time are in memory. What plugins do wrong is no
    fault of the volume, and must not count as one.
    """
    blocks: list[Pixels] = []
    found: list[list[NDArray[Any]]] = [[] for _ in item.evidence]
    failures: dict[int, Failure] = {}
    reducers = [reducer.build() for reducer in item.evidence]
    whole = item.store or not all(reducer.by_slice for reducer in reducers)
    try:
        for pixels in _read(chosen, item, whole=whole):
            blocks.append(replace(pixels, values=np.empty((0, *pixels.values.shape[1:]))))
            slices = as_slices(pixels) if pixels.index.size and item.evidence else None
            for n, one in enumerate(item.evidence):
                try:
                    if slices is not None and n not in failures:  # a copy, as it may be a view of what comes next
                        found[n].append(evidence_of(one, slices, reducers[n]).copy())
                except PluginError as error:
                    failures[n] = Failure(f"{error} (volume {cache.pseudonym(item.volume.key)})", one)
    except PluginError as error:
        return Described(failures=(Failure(str(error)),))
    reading = Reading.of(len(item.volume), _joined(blocks), item.known)
    if pixels.index.size and item.store:
        store_slices(cache, look, item.address, pixels, reading)
    evidence = ((n, np.concatenate(parts)) for n, parts in enumerate(found) if parts and n not in failures)
    return Described(reading, tuple(evidence), tuple(failures.values()))


def keep(cache: Cache, item: Wanted, found: Described) -> None:
    """Add what came of a volume to what is to be written, its reading last."""
    if found.reading is None:
        return
    known = packed(cache, "evidence")
    for place, evidence in found.evidence:
        name = evidence_name(known, item.evidence[place], item.address, found.reading)
        if name not in known:
            np.save(file := BytesIO(), evidence, allow_pickle=False)
            known.add(name, file.getvalue())
    write_reading(cache, item.address, found.reading)


def write_kept(cache: Cache) -> None:
    """Write what ``keep`` has added, readings last."""
    for kind in ("evidence", "reading"):
        packed(cache, kind).write()


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
    """Render pixels as reducers see them, who cannot change them: others look at them as well."""
    grey, hu, index = rendering.evidence(pixels.values, pixels.ends), pixels.values.view(), pixels.index.view()
    for array in (grey, hu, index):
        array.flags.writeable = False
    return Slices(grey, hu if pixels.unit == "HU" else None, index)


def evidence_of(chosen: Chosen[Reducer[Any]], slices: Slices, reducer: Reducer[Any] | None = None) -> NDArray[Any]:
    """Describe one volume, by what ``chosen`` has built where that is known.

    Raises ``PluginError`` where the reducer fails or returns what it must not.
    """
    name, reducer, n = chosen.entry.name, reducer or chosen.build(), len(slices.index)
    try:
        found = reducer.describe(replace(slices, at=chosen.at))
        evidence: NDArray[Any] = np.asarray(found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a stranger's reducer may raise anything
        _log.debug("describing failed", exc_info=True)
        words = PluginError.words_of(error)
        raise PluginError(f"reducer {name!r} failed to describe a volume: {words}") from error
    expected = (n,) if reducer.evidence == "slice" else (n * (n - 1) // 2,)
    of_pairs = reducer.evidence == "pair" and evidence.ndim != 1
    numbers = evidence.dtype.kind in "biufc" and not np.ma.isMaskedArray(found)  # of which some are not there
    if evidence.shape[:1] != expected or of_pairs or not numbers:
        raise PluginError(
            f"reducer {name!r} must describe {n} slices by numbers ({expected[0]}, ...) for evidence"
            f" {reducer.evidence!r}, but returned {form_of(found)}; return an array of numbers, without a mask"
        )
    left_out = np.isnan(evidence) if evidence.dtype.kind in "fc" and chosen.at is not None else False
    if evidence.dtype.kind in "fc" and not (np.isfinite(evidence) | left_out).all():
        raise PluginError(
            f"reducer {name!r} must describe slices by finite numbers, but its evidence holds NaN or infinity; define"
            " the evidence of slices without contrast, and raise the reducer's version"
        )
    return evidence


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
