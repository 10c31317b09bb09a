"""Describe: decode each volume once, for every arm that wants evidence, and let the pixels go.

Beside the evidence each volume leaves its reading. Evidence lies under the address of the volume *and* of the slices it
was made of, so that a volume which reads differently another time never meets evidence of other slices. Where an arm
keeps every slice, the slice store is filled in the same pass.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctkit import compute
from ctkit.compute import Chore, Errand
from ctkit.contracts import Dataset, Ints, Pixels, Reducer, Slices, Volume, rendering
from ctkit.contracts.promises import Judge, check_pixels
from ctkit.errors import CtkitError, DataError, PluginError, StorageError
from ctkit.files import writing
from ctkit.pipeline_file import Arm, Chosen, Rendering
from ctkit.slices import Catalogue, SliceStore
from ctkit.stages.readings import Reading, Skips, read_reading, read_readings, write_reading
from ctkit.storage import Cache, address

if TYPE_CHECKING:
    from ctkit.session import Session

NOT_FINITE = "holds values that are infinite or no numbers, which the data set's plugin must fill or skip"
_PASSES = 3  # a volume that reads differently the second time is described anew
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
    skipped: Skips = ()  #: slices that are known to be unreadable
    limit: float = 0.0  #: seconds after which some of these were given up


_Decoded = tuple[Slices, Reading]
_Outcome = compute.Done[Wanted, _Decoded] | compute.Lost[Wanted]


def describe(session: Session, catalogue: Catalogue) -> list[Reading]:
    """Make the evidence that is missing; return each volume's reading, in the catalogue's order.

    Raises ``CtkitError`` where a reducer cannot describe a volume; what it could describe stays.
    """
    reducers = described_reducers(session)
    volumes = [number for number in range(len(catalogue)) if _is_wanted(session, catalogue, reducers, number)]
    if not volumes:
        session.cached("describe")
        return read_readings(session.cache, catalogue)
    with session.work("describe"):
        for _ in range(_PASSES):
            failures = [*_describe_all(session, catalogue, volumes, reducers)]
            if failures:
                raise CtkitError(failures[0] + (f" (and {len(failures) - 1} more volumes)" if failures[1:] else ""))
            volumes = [n for n in volumes if is_missing(session.cache, catalogue.address(n), reducers)]
            if not volumes:
                return read_readings(session.cache, catalogue)
    raise DataError(f"{len(volumes)} volumes read differently each time; are their files being changed?")


def describe_again(session: Session, catalogue: Catalogue, volume: int, chosen: Chosen[Reducer[Any]]) -> None:
    """Make one volume's evidence that was lost since. Raises ``CtkitError`` where the reducer cannot."""
    for failure in _describe_all(session, catalogue, [volume], [chosen]):
        raise CtkitError(failure)


def described_reducers(session: Session) -> list[Chosen[Reducer[Any]]]:
    """Return the reducers of all arms that look at pixels, each once."""
    return reducers_of(session.pipeline.arms)


def reducers_of(arms: Iterable[Arm]) -> list[Chosen[Reducer[Any]]]:
    """Return the reducers of some arms that look at pixels, each once."""
    steps = (step.reducer for arm in arms for step in arm.steps)
    looking = (chosen for chosen in steps if chosen.build().evidence != "none")
    return list({address("reducer", **chosen.evidence_identity): chosen for chosen in looking}.values())


def evidence_path(cache: Cache, chosen: Chosen[Reducer[Any]], volume: str, reading: Reading) -> Path:
    """Where the evidence of a reducer on the readable slices of the volume with address ``volume`` is or would be."""
    looks = {"reducer": chosen.evidence_identity, "rendering": rendering.VERSION}
    at = address("evidence", **looks, volume=volume, slices=reading.mark)
    return cache.path("evidence", at, ".npy")


# --- what is missing ----------------------------------------------------------------------------------------------


def is_missing(cache: Cache, volume: str, reducers: list[Chosen[Reducer[Any]]]) -> bool:
    """Whether a volume has to be decoded for its reading or for the evidence of one of the reducers."""
    reading = read_reading(cache, volume)
    return reading is None or bool(_without_evidence(cache, volume, reading, reducers))


def _without_evidence(
    cache: Cache, volume: str, reading: Reading, reducers: list[Chosen[Reducer[Any]]]
) -> tuple[Chosen[Reducer[Any]], ...]:
    if not reading.index.size:
        return ()
    return tuple(chosen for chosen in reducers if not evidence_path(cache, chosen, volume, reading).exists())


def _is_wanted(session: Session, catalogue: Catalogue, reducers: list[Chosen[Reducer[Any]]], number: int) -> bool:
    reading = read_reading(session.cache, catalogue.address(number))
    again = reading is not None and _is_tried_again(session, reading)
    return again or is_missing(session.cache, catalogue.address(number), reducers)


def _is_tried_again(session: Session, reading: Reading) -> bool:
    return reading.retry or 0 < reading.limit < session.workers.backend.time_limit


def _wanted(
    session: Session, catalogue: Catalogue, reducers: list[Chosen[Reducer[Any]]], number: int, *, store: bool = False
) -> Wanted:
    """What there is to make of one volume; slices that were skipped for what may pass are read again."""
    at = catalogue.address(number)
    known = read_reading(session.cache, at)
    if known is None or _is_tried_again(session, known):
        return Wanted(number, at, catalogue[number], None, tuple(reducers), store)
    missing = _without_evidence(session.cache, at, known, reducers)
    return Wanted(number, at, catalogue[number], known.index, missing, store, known.skipped, known.limit)


# --- decoding -----------------------------------------------------------------------------------------------------


def _describe_all(
    session: Session, catalogue: Catalogue, volumes: list[int], reducers: list[Chosen[Reducer[Any]]]
) -> Iterator[str]:
    """Describe volumes; yield what went wrong with reducers."""
    on_accelerator = [c for c in reducers if session.device != "cpu" and c.build().device == "accelerator"]
    in_workers = [chosen for chosen in reducers if chosen not in on_accelerator]
    whole = any(arm.keeps_all and session.only.wants(arm=arm.id) for arm in session.pipeline.arms)
    everything = bool(session.pipeline.pretrains) and whole
    items = (_wanted(session, catalogue, in_workers, number, store=everything) for number in volumes)
    try:
        yield from _in_workers(session, items, len(volumes))
        for chosen in on_accelerator:
            yield from _on_accelerator(session, catalogue, volumes, chosen)
    finally:
        session.crew.rest()  # what trainings need of the accelerators' memory is theirs


def _in_workers(session: Session, items: Iterable[Wanted], total: int) -> Iterator[str]:
    from ctkit.stages.rescue import rescue

    lost: list[compute.Lost[Wanted]] = []
    for outcome in describe_each(session, items, total):
        if isinstance(outcome, compute.Lost):
            lost.append(outcome)
        elif outcome.result:
            yield outcome.result
    for one in lost:
        yield from rescue(session, one)


def describe_each(
    session: Session, items: Iterable[Wanted], total: int
) -> Iterator[compute.Done[Wanted, str] | compute.Lost[Wanted]]:
    """Describe volumes in worker processes; results say what a plugin did wrong, "" for nothing."""
    work = partial(describe_volume, session.pipeline.dataset, session.cache.folder, session.pipeline.rendering)
    yield from session.parallel("describe", work, items, total=total, name=lambda item: item.address)


def describe_volume(chosen: Chosen[Dataset[Any]], cache_folder: Path, look: Rendering, item: Wanted) -> str:
    """Read one volume, write what is wanted of it, and last its reading. Runs in a worker process.

    Returns what a plugin did wrong, "" for nothing: that is no fault of the volume, and must not count as one.
    """
    cache = Cache(cache_folder)
    try:
        pixels = read(chosen, item)
        reading = Reading.of(len(item.volume), pixels, item.skipped, item.limit)
        if pixels.index.size and item.evidence:
            _write_evidence(cache, item, reading, as_slices(pixels))
    except PluginError as error:
        return str(error)
    if pixels.index.size and item.store:
        store_slices(cache, look, item.address, pixels, reading)
    write_reading(cache, item.address, reading)
    return ""


def as_slices(pixels: Pixels) -> Slices:
    """Render pixels as reducers see them."""
    hu = pixels.values if pixels.unit == "HU" else None
    return Slices(rendering.evidence(pixels.values), hu, pixels.index)


def _write_evidence(cache: Cache, item: Wanted, reading: Reading, slices: Slices) -> None:
    for chosen in item.evidence:
        path = evidence_path(cache, chosen, item.address, reading)
        if not path.exists():
            write_evidence(path, evidence_of(chosen, slices))


def evidence_of(chosen: Chosen[Reducer[Any]], slices: Slices) -> NDArray[Any]:
    """Describe one volume. Raises ``PluginError`` where the reducer fails or returns what it must not."""
    name, reducer, n = chosen.entry.name, chosen.build(), len(slices.index)
    try:
        evidence: NDArray[Any] = np.asarray(reducer.describe(slices))
    except Exception as error:  # a stranger's reducer may raise anything
        _log.debug("describing failed", exc_info=True)
        raise PluginError(f"reducer {name!r} failed to describe a volume: {type(error).__name__}: {error}") from error
    expected = (n,) if reducer.evidence == "slice" else (n * (n - 1) // 2,)
    of_pairs = reducer.evidence == "pair" and evidence.ndim != 1
    if evidence.shape[:1] != expected or of_pairs or evidence.dtype.hasobject:
        raise PluginError(
            f"reducer {name!r} must describe {n} slices by numbers ({expected[0]}, ...) for evidence"
            f" {reducer.evidence!r}, but returned {evidence.shape} {evidence.dtype}"
        )
    return evidence


def write_evidence(path: Path, evidence: NDArray[Any]) -> None:
    """Write the evidence of one volume, whole or not at all."""
    with writing(path) as temporary, temporary.open("wb") as file:
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
    """Leave out the slices that hold values which are infinite or no numbers: one would darken all of its volume."""
    if pixels.values.dtype.kind != "f":
        return pixels
    good = np.isfinite(pixels.values).all(axis=(1, 2))
    if good.all():
        return pixels
    skipped = tuple((number, NOT_FINITE) for number in pixels.index[~good].tolist())
    return replace(pixels, values=pixels.values[good], index=pixels.index[good], skipped=(*pixels.skipped, *skipped))


# --- accelerator --------------------------------------------------------------------------------------------------


def _on_accelerator(
    session: Session, catalogue: Catalogue, volumes: list[int], chosen: Chosen[Reducer[Any]]
) -> list[str]:
    """Describe by whoever has the accelerators, while worker processes decode; return what went wrong."""
    wanted = (_wanted(session, catalogue, [chosen], number) for number in volumes)
    items = [item for item in wanted if item.evidence]
    work = partial(read_slices, session.pipeline.dataset)
    decoded = session.parallel("describe", work, items, total=len(items), name=lambda item: item.address)
    at_once = session.crew.at_once(len(items))
    failures = session.crew.do([_describe_next(session, decoded, chosen) for _ in range(at_once)])
    return list(itertools.chain(*failures))


def _describe_next(session: Session, decoded: Iterator[_Outcome], chosen: Chosen[Reducer[Any]]) -> Chore[list[str]]:
    """Describe the next volume that is decoded until there is none, perhaps beside others; return what went wrong."""
    name, failures = chosen.entry.name, []
    for outcome in decoded:
        if isinstance(outcome, compute.Lost):
            failures.append(f"a volume that could be read before cannot be read for {name!r}: {outcome.reason}")
            continue
        slices, reading = outcome.result
        write_reading(session.cache, outcome.item.address, reading)
        path = evidence_path(session.cache, chosen, outcome.item.address, reading)
        if not reading.index.size or path.exists():
            continue
        try:
            yield Errand(partial(_make_evidence, path, chosen, replace(slices, device=session.device)), {})
        except StorageError:
            raise
        except PluginError as error:
            failures.append(str(error))
        except CtkitError as error:  # the process died
            failures.append(f"reducer {name!r}: {error}, on a volume of {len(outcome.item.volume)} slices")
    return failures


def _make_evidence(path: Path, chosen: Chosen[Reducer[Any]], slices: Slices) -> None:
    """Describe one volume and write it; perhaps in another process, whose end frees the accelerator's memory."""
    write_evidence(path, evidence_of(chosen, slices))


def read_slices(chosen: Chosen[Dataset[Any]], item: Wanted) -> _Decoded:
    """Read one volume's slices. Runs in a worker process."""
    pixels = read(chosen, item)
    return as_slices(pixels), Reading.of(len(item.volume), pixels, item.skipped, item.limit)
