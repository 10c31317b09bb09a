"""Scan: from a folder's files to a catalogue of volumes, by headers alone. Every file is accounted for."""

from __future__ import annotations

import json
import logging
import zlib
from array import array
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ctkit import compute
from ctkit.contracts import Dataset, Ints, Skipped, SourceFile, Volume
from ctkit.contracts.judge import Judge
from ctkit.errors import CtkitError, DataError
from ctkit.files import read_json, write_json
from ctkit.pipeline_file import Chosen
from ctkit.promises import checked_files
from ctkit.session import Session
from ctkit.slices import Catalogue, packed, write_catalogue
from ctkit.stages.data import Data
from ctkit.stages.left_out import LeftOut, LeftOutWriter
from ctkit.storage import Cache, address, parsed

CHUNK = 256  #: files whose headers are read by one worker at a time and cached together
_Found = Mapping[str, Any] | Skipped
_Passing = dict[str, list[_Found]]  #: what was found in chunks, by address, that are to be looked at again next time
_log = logging.getLogger(__name__)

_FILES = "files.json"  # of a scan: its address if every file could have been opened
_PASSING = (OSError, MemoryError, ImportError)  # may be gone the next time, though the file is the same


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Files of one folder. They wait compressed, at some 20 bytes each, as all chunks of a scan are held at once."""

    address: str
    packed: bytes  #: path, size and time of each
    count: int

    @classmethod
    def of(cls, chosen: Chosen[Dataset[Any]], files: Sequence[SourceFile]) -> _Chunk:
        stamps = [[file.path, file.size, file.mtime_ns] for file in files]
        at = address("headers", dataset=chosen.identity, files=stamps)
        return cls(at, zlib.compress(json.dumps(stamps).encode(), level=1), len(files))

    @property
    def files(self) -> tuple[SourceFile, ...]:
        return tuple(SourceFile(*stamp) for stamp in json.loads(zlib.decompress(self.packed)))


def scan(session: Session) -> Data:
    """Find the volumes of the pipeline's data set; only new or changed files are opened.

    Raises ``DataError`` where there is not a single volume.
    """
    chosen = session.pipeline.dataset
    dataset = chosen.build()
    chunks = _look(chosen)
    at = _address(chosen, chunks)
    if session.cache.holds("scan", at):
        session.cached("scan")
    else:
        with session.work("scan"), closing(_Inspection(session, chosen, chunks)) as inspection:
            if 2 * len(inspection.missing) < len(chunks):  # what is arranged too early may have to be arranged again
                inspection.wait()
            while not session.cache.holds("scan", at := _address(chosen, chunks, inspection.passing)):
                with suppress(_LackingError), session.cache.entry("scan", at) as entry:
                    _write(entry, session, chunks, inspection)
                    if at != _address(chosen, chunks, inspection.passing):
                        raise _LackingError
                    write_json(entry / _FILES, {"address": _address(chosen, chunks)})
    found = _load(session.cache.path("scan", at), at)
    if not len(found.catalogue):
        raise DataError(f"{chosen.title}: {_nothing(dataset, _count(chunks), found.skipped)}")
    return found


def found_before(session: Session) -> tuple[int, Data | None]:
    """Return how many files there are, and the scan where it is cached, by looking at folders only.

    Where some files could not be opened, that is the scan of the folder's last start, if the files are still the same.
    """
    chunks = _look(session.pipeline.dataset)
    at, known = _address(session.pipeline.dataset, chunks), session.provenance.earlier_fingerprint
    for one in (at, known):
        if one and session.cache.holds("scan", one):
            folder = session.cache.path("scan", one)
            if one == at or read_json(folder / _FILES).get("address") == at:
                return _count(chunks), _load(folder, one)
    return _count(chunks), None


def _look(chosen: Chosen[Dataset[Any]]) -> list[_Chunk]:
    """Return the files as they lie there."""
    with (judge := Judge(chosen.title)).calling("files"):
        return [_Chunk.of(chosen, files) for files in _chunks(checked_files(judge, chosen.build().files()))]


def _count(chunks: Sequence[_Chunk]) -> int:
    return sum(chunk.count for chunk in chunks)


def _address(chosen: Chosen[Dataset[Any]], chunks: list[_Chunk], passing: _Passing | None = None) -> str:
    """Address of the scan of these chunks, of which the ``passing`` ones hold files that cannot be opened now."""
    lacking = {
        at: [found.source for found in chunk if isinstance(found, Skipped)] for at, chunk in (passing or {}).items()
    }
    parts = {"dataset": chosen.full_identity, "chunks": [chunk.address for chunk in chunks]}
    return address("scan", **parts, **({"lacking": lacking} if lacking else {}))


def _load(folder: Path, at: str) -> Data:
    return Data(at, Catalogue(folder), LeftOut(folder))


def _chunks(files: Iterable[SourceFile]) -> Iterator[list[SourceFile]]:
    """Cut the files into pieces of one folder each, so that a new folder changes no other piece."""
    chunk: list[SourceFile] = []
    for file in files:
        if chunk and (len(chunk) == CHUNK or _folder(file) != _folder(chunk[0])):
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk


def _folder(file: SourceFile) -> str:
    return file.path.rpartition("/")[0]


# --- headers ------------------------------------------------------------------------------------------------------


class _LackingError(Exception):
    """Files cannot be opened, which the address of the scan must say."""


class _Inspection:
    """Headers that are not cached yet are read in worker processes, while this process arranges those that are."""

    def __init__(self, session: Session, chosen: Chosen[Dataset[Any]], chunks: list[_Chunk]) -> None:
        known = packed(session.cache, "headers")
        self.missing = {chunk.address: chunk for chunk in chunks if chunk.address not in known}
        self.passing: _Passing = {}  #: what is not to be cached
        self._failure: BaseException = KeyboardInterrupt()
        self._batches = self._read(session, chosen)
        self.close = self._batches.close

    def wait(self, at: str | None = None) -> None:
        """Wait until the chunk with address ``at`` is inspected; until all are, for None."""
        try:
            while at is None or at in self.missing:
                next(self._batches)
        except StopIteration:
            if self.missing:  # a plugin went on after what was raised here
                raise self._failure from None
        except BaseException as error:
            self._failure = error
            raise

    def _read(self, session: Session, chosen: Chosen[Dataset[Any]]) -> Generator[None]:
        if not (missing := list(self.missing.values())):
            return
        together = _together(missing, _count(missing) // (4 * session.workers.backend.workers))
        work, total = partial(inspect_chunks, chosen), _count(missing)
        try:
            for outcome in session.parallel(
                "scan", work, together, total=total, name=lambda batch: batch[0].address, weight=_count
            ):
                done = iter(outcome.result if isinstance(outcome, compute.Done) else ())
                for chunk in outcome.item:
                    found = next(done, None) or _inspect_alone(session, chosen, chunk)
                    if not _keep(session.cache, chosen, chunk, found):
                        self.passing[chunk.address] = found
                    del self.missing[chunk.address]
                yield
        finally:
            packed(session.cache, "headers").write()


def _together(chunks: list[_Chunk], most: int) -> Iterator[tuple[_Chunk, ...]]:
    """Group small chunks for one worker at a time: up to ``CHUNK`` and up to ``most`` files, so that all have some."""
    batch: list[_Chunk] = []
    for chunk in chunks:
        if batch and _count(batch) + chunk.count > min(CHUNK, most):
            yield tuple(batch)
            batch = []
        batch.append(chunk)
    yield tuple(batch)


def inspect_chunks(chosen: Chosen[Dataset[Any]], chunks: Sequence[_Chunk]) -> list[list[_Found]]:
    """Read the headers of some chunks of files. Runs in a worker process."""
    dataset = chosen.build()
    return [[_inspected(dataset, file) for file in chunk.files] for chunk in chunks]


def _keep(cache: Cache, chosen: Chosen[Dataset[Any]], chunk: _Chunk, found: list[_Found]) -> bool:
    """Cache what the headers of a chunk say, unless a file of it is skipped for what may pass; say whether."""
    if any(isinstance(one, Skipped) and one.retry for one in found):
        return False
    plain = [one.reason if isinstance(one, Skipped) else one for one in found]
    with Judge(chosen.title).keeping("inspect must return facts that JSON supports", "convert them to plain values"):
        content = json.dumps(plain, default=asdict)
    packed(cache, "headers").add(chunk.address, content.encode())
    return True


def _inspected(dataset: Dataset[Any], file: SourceFile) -> _Found:
    try:
        found = dataset.inspect(file)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # damaged files may make a parser raise anything
        _log.debug("inspecting %s failed", file.path, exc_info=True)
        own = isinstance(error, CtkitError)  # what others say may quote the patient
        reason = str(error) if own else f"its header cannot be read ({type(error).__name__})"
        return Skipped(file.path, reason, retry=isinstance(error, _PASSING) or getattr(error, "retry", False) is True)
    if isinstance(found, Mapping) or (isinstance(found, Skipped) and isinstance(found.reason, str) and found.reason):
        return found
    reason = f"the data set plugin must return facts or Skipped for it, but returned {type(found).__name__}"
    return Skipped(file.path, reason, retry=True)


def _inspect_alone(session: Session, chosen: Chosen[Dataset[Any]], chunk: _Chunk) -> list[_Found]:
    """Find the file of a chunk that killed its worker or hung: each file by itself."""
    singles = [(_Chunk.of(chosen, [file]),) for file in chunk.files]
    work = partial(inspect_chunks, chosen)
    found: dict[str, _Found] = {}
    for outcome in session.parallel("scan", work, singles, total=len(singles), name=lambda one: one[0].address):
        path = outcome.item[0].files[0].path
        if isinstance(outcome, compute.Lost):
            found[path] = Skipped(path, outcome.reason, retry=outcome.cause.may_pass)
        else:
            ((found[path],),) = outcome.result
    return [found[file.path] for file in chunk.files]


def _cached(cache: Cache, chunk: _Chunk) -> list[_Found] | None:
    """Return what is cached of a chunk's files; None where that is damaged."""
    known = packed(cache, "headers")
    content = known.read(chunk.address)
    found = None if content is None else parsed(content, list[dict[str, Any] | str])
    if found is None or len(found) != chunk.count:
        if content is not None:
            known.drop(chunk.address)
        return None
    return [
        Skipped(file.path, one) if isinstance(one, str) else one for file, one in zip(chunk.files, found, strict=True)
    ]


def _headers(
    cache: Cache, chosen: Chosen[Dataset[Any]], chunks: list[_Chunk], inspection: _Inspection
) -> Iterator[tuple[SourceFile, _Found]]:
    for chunk in chunks:
        inspection.wait(chunk.address)
        found = inspection.passing.get(chunk.address) or _cached(cache, chunk)
        if found is None:
            (found,) = inspect_chunks(chosen, [chunk])
            _keep(cache, chosen, chunk, found)
        yield from zip(chunk.files, found, strict=True)
    packed(cache, "headers").write()


# --- volumes ------------------------------------------------------------------------------------------------------


def _write(folder: Path, session: Session, chunks: list[_Chunk], inspection: _Inspection) -> None:
    """Arrange headers into volumes and write the catalogue, and what is left out with its reason."""
    chosen = session.pipeline.dataset
    skipped = LeftOutWriter(folder)
    accepted, accounted = array("q"), array("q")  # hashes of paths; a set of them would be most of a scan's memory

    def headers() -> Iterator[tuple[SourceFile, Mapping[str, Any]]]:
        for file, found in _headers(session.cache, chosen, chunks, inspection):
            if isinstance(found, Skipped):
                skipped.add(found)
            else:
                accepted.append(hash(file.path))
                yield file, found

    def volumes() -> Iterator[Volume]:
        for found in chosen.build().arrange(given := headers()):
            if isinstance(found, Skipped):
                skipped.add(found)
                accounted.append(hash(found.source))
                continue
            if isinstance(found, Volume):
                accounted.extend(hash(file.path) for file in found.files)
            yield found
        deque(given, maxlen=0)  # what the plugin has not asked for

    write_catalogue(folder, volumes(), chosen.identity)
    inspection.wait()  # where the plugin has not asked for all
    absent = set(_absent(np.asarray(accepted), np.asarray(accounted)).tolist())
    for path in (file.path for chunk in chunks if absent for file in chunk.files if hash(file.path) in absent):
        skipped.add(Skipped(path, "the data set plugin assigned it to no volume and did not skip it"))
    skipped.write()


def _absent(wanted: Ints, known: Ints) -> Ints:
    """Return which of the ``wanted`` numbers are not ``known``; sorts those in place, as copies may be large."""
    known.sort()
    absent: Ints = wanted[np.searchsorted(known, wanted, "left") == np.searchsorted(known, wanted, "right")]
    return absent


def _nothing(dataset: Dataset[Any], files: int, skipped: Iterable[Skipped]) -> str:
    where = f" in {dataset.root}" if dataset.root else ""
    if not files:
        return f"there are no files{where}"
    reasons = Counter(skip.reason for skip in skipped)
    common = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    listed = "; ".join(f"{count} x {reason}" for reason, count in common)
    return f"there is no CT volume among {files} files{where}: {listed}"
