"""Describe: decode each volume once, for every arm that wants evidence, and let the pixels go.

Beside the evidence each volume leaves its reading. Evidence lies under the address of the volume *and* of the slices it
was made of, so that a volume which reads differently another time never meets evidence of other slices. Where an arm
keeps every slice, the slice store is filled in the same pass.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from ctkit import compute
from ctkit.compute import Call, Coroutine
from ctkit.contracts import Reducer
from ctkit.errors import CtkitError, DataError, PluginError, StorageError
from ctkit.pipeline_file import Chosen
from ctkit.session import Session
from ctkit.slices import Catalogue, packed
from ctkit.stages import decoding
from ctkit.stages.data import Data
from ctkit.stages.decoding import Decoded, Failure, Wanted, evidence_name, evidence_of, read_slices
from ctkit.stages.readings import Known, Reading, read_reading, read_readings, write_reading
from ctkit.stages.rescue import describe_each, rescue
from ctkit.storage import Cache, address

_PASSES = 3  # a volume that reads differently the second time is described again
_Outcome = compute.Done[Wanted, Decoded] | compute.Lost[Wanted]


def describe(session: Session, data: Data) -> Data:
    """Make the evidence that is missing; return the data with each volume's reading.

    An arm whose reducer cannot describe a volume is noted as failed; what it could describe stays. Raises
    ``CtkitError`` where the data set breaks its contract, or the slice store cannot be written.
    """
    catalogue, reducers = data.catalogue, described_reducers(session, data.catalogue)
    volumes = [number for number in range(len(catalogue)) if _is_wanted(session, catalogue, reducers, number)]
    if not volumes:
        session.cached("describe")
        return replace(data, readings=read_readings(session.cache, catalogue))
    with session.work("describe"):
        for _ in range(_PASSES):
            failures = [*_describe_all(session, catalogue, volumes, reducers)]
            if of_data := [failure for failure in failures if failure.reducer is None]:
                raise CtkitError(_in_words(of_data))
            reducers = _without_failed(session, reducers, failures)
            volumes = [n for n in volumes if is_missing(session.cache, catalogue.address(n), reducers)]
            if not volumes:
                return replace(data, readings=read_readings(session.cache, catalogue))
    raise DataError(f"{len(volumes)} volumes give different pixels each time; are their files being changed?")


def describe_again(session: Session, catalogue: Catalogue, chosen: Chosen[Reducer[Any]]) -> None:
    """Make the evidence that was lost since, or of pairs left out. Raises ``CtkitError`` where the reducer cannot."""
    for failure in _describe_all(session, catalogue, missing(session, catalogue, [chosen]), [chosen]):
        raise CtkitError(failure.reason)


def _without_failed(
    session: Session, reducers: list[Chosen[Reducer[Any]]], failures: list[Failure]
) -> list[Chosen[Reducer[Any]]]:
    """Note the arms of reducers that failed; return the other reducers."""
    by_evidence: dict[str, list[Failure]] = {}
    for failure in failures:
        if failure.reducer is not None:
            by_evidence.setdefault(evidence_key(failure.reducer), []).append(failure)
    for arm in session.arms:
        found = [by_evidence[at] for step in arm.steps if (at := evidence_key(step.reducer)) in by_evidence]
        if found:
            session.fail("describe", arm.id, CtkitError(_in_words(found[0])))
    return [chosen for chosen in reducers if evidence_key(chosen) not in by_evidence]


def _in_words(failures: list[Failure]) -> str:
    return failures[0].reason + (f" (and {len(failures) - 1} more volumes)" if failures[1:] else "")


def evidence_key(chosen: Chosen[Reducer[Any]]) -> str:
    """What tells the evidence of reducers apart."""
    return address("reducer", **chosen.evidence_identity)


def described_reducers(session: Session, catalogue: Catalogue) -> list[Chosen[Reducer[Any]]]:
    """Return the reducers of the session's arms that look at pixels, each once.

    One whose arms all ask for one value of the knob, on all slices in their order, carries it as ``at``.
    """
    any_knob = session.pipeline.run.curve or session.device != "cpu" or catalogue.ordered
    asked: dict[str, list[Chosen[Reducer[Any]]]] = {}
    for arm in session.arms:
        for step in arm.steps:
            reducer = step.reducer.build()
            if reducer.evidence != "none":
                fixed = reducer.describes_at and not any_knob and step is arm.steps[0]
                at = step.at if fixed and not math.isnan(step.at) else None
                asked.setdefault(evidence_key(step.reducer), []).append(replace(step.reducer, at=at))
    return [
        one if {other.at for other in like} == {one.at} else replace(one, at=None)
        for one, *like in ([found[0], *found] for found in asked.values())
    ]


# --- what is missing ----------------------------------------------------------------------------------------------


def missing(session: Session, catalogue: Catalogue, reducers: list[Chosen[Reducer[Any]]]) -> list[int]:
    """Numbers of the volumes that have to be decoded for their reading or for the evidence of one of the reducers."""
    return [n for n in range(len(catalogue)) if is_missing(session.cache, catalogue.address(n), reducers)]


def is_missing(cache: Cache, volume: str, reducers: list[Chosen[Reducer[Any]]]) -> bool:
    """Whether a volume has to be decoded for its reading or for the evidence of one of the reducers."""
    reading = read_reading(cache, volume)
    return reading is None or bool(_without_evidence(cache, volume, reading, reducers))


def _without_evidence(
    cache: Cache, volume: str, reading: Reading, reducers: list[Chosen[Reducer[Any]]]
) -> tuple[Chosen[Reducer[Any]], ...]:
    if not reading.index.size:
        return ()
    known = packed(cache, "evidence")
    return tuple(chosen for chosen in reducers if evidence_name(known, chosen, volume, reading) not in known)


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
    return Wanted(number, at, catalogue[number], known.index, missing, store, Known(known.skipped, limit=known.limit))


# --- decoding -----------------------------------------------------------------------------------------------------


def _describe_all(
    session: Session, catalogue: Catalogue, volumes: list[int], reducers: list[Chosen[Reducer[Any]]]
) -> Iterator[Failure]:
    """Describe volumes; yield what went wrong with reducers."""
    on_accelerator = [c for c in reducers if session.device != "cpu" and c.build().device == "accelerator"]
    in_workers = [chosen for chosen in reducers if chosen not in on_accelerator]
    whole = any(arm.keeps_all and session.only.wants(arm=arm.id) for arm in session.arms)
    everything = bool(session.pipeline.pretrains) and whole
    items = (_wanted(session, catalogue, in_workers, number, store=everything) for number in volumes)
    try:
        yield from _in_workers(session, items, len(volumes))
        for chosen in on_accelerator:
            yield from _on_accelerator(session, catalogue, volumes, chosen)
    finally:
        session.device_pool.release()  # what trainings need of the accelerators' memory is theirs


def _in_workers(session: Session, items: Iterable[Wanted], total: int) -> Iterator[Failure]:
    lost: list[compute.Lost[Wanted]] = []
    for outcome in describe_each(session, items, total):
        if isinstance(outcome, compute.Lost):
            lost.append(outcome)
        else:
            yield from outcome.result
    for one in lost:
        yield from rescue(session, one)


# --- accelerator --------------------------------------------------------------------------------------------------


def _on_accelerator(
    session: Session, catalogue: Catalogue, volumes: list[int], chosen: Chosen[Reducer[Any]]
) -> list[Failure]:
    """Describe by whoever has the accelerators, while worker processes decode; return what went wrong."""
    wanted = (_wanted(session, catalogue, [chosen], number) for number in volumes)
    items = [item for item in wanted if item.evidence]
    work = partial(read_slices, session.pipeline.dataset)
    decoded = session.parallel("describe", work, items, total=len(items), name=lambda item: item.address)
    at_once = session.device_pool.at_once(len(items))
    try:
        failures = session.device_pool.run([_describe_next(session, decoded, chosen) for _ in range(at_once)])
    finally:
        decoding.write_kept(session.cache)
    return list(itertools.chain(*failures))


def _describe_next(
    session: Session, decoded: Iterator[_Outcome], chosen: Chosen[Reducer[Any]]
) -> Coroutine[list[Failure]]:
    """Describe the next volume that is decoded until there is none; return what went wrong."""
    name, failures = chosen.entry.name, []
    for outcome in decoded:
        if isinstance(outcome, compute.Lost):
            reason = f"a volume could be read before, but not for {name!r}: {outcome.reason}"
            failures.append(Failure(reason, chosen))
            continue
        slices, reading = outcome.result
        if not _without_evidence(session.cache, outcome.item.address, reading, [chosen]):
            write_reading(session.cache, outcome.item.address, reading)
            continue
        try:
            found = yield Call(partial(evidence_of, chosen, replace(slices, device=session.device)), {})
            decoding.keep(session.cache, outcome.item, decoding.Described(reading, ((0, found),)))
        except StorageError:
            raise
        except PluginError as error:
            volume = session.cache.pseudonym(outcome.item.volume.key)
            failures.append(Failure(f"{error} (volume {volume})", chosen))
        except CtkitError as error:  # the process died
            reason = f"reducer {name!r}: {error}, on a volume of {len(outcome.item.volume)} slices"
            failures.append(Failure(reason, chosen))
    return failures
