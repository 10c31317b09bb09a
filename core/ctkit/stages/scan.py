"""Scan: from a folder's files to a catalogue of volumes, by headers alone. Every file is accounted for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkit import compute
from ctkit.cache import Cache, address
from ctkit.catalogue import Catalogue, write_catalogue
from ctkit.contracts import Dataset, Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit.files import read_csv, write_csv, write_text
from ctkit.plan import Chosen

if TYPE_CHECKING:
    from ctkit.session import Session

CHUNK = 256  #: files whose headers are read by one worker at a time and cached together
_Found = Mapping[str, Any] | Skipped
_Passing = dict[str, list[_Found]]  #: what was found in chunks, by address, that are to be looked at again next time
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """What a scan found."""

    address: str
    catalogue: Catalogue
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class _Chunk:
    address: str
    files: tuple[SourceFile, ...]


def scan(session: Session) -> Scan:
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
        with session.work("scan"):
            passing = _inspect(session, chosen, chunks)
            at = _address(chosen, chunks, passing)
            if not session.cache.holds("scan", at):
                with session.cache.entry("scan", at) as entry:
                    _write(entry, dataset, chosen, _headers(session.cache, chunks, passing))
    found = _load(session.cache.path("scan", at), at)
    if not len(found.catalogue):
        raise DataError(_nothing(dataset, sum(len(chunk.files) for chunk in chunks), found.skipped))
    return found


def found_before(session: Session) -> tuple[int, Scan | None]:
    """Return how many files there are, and the scan where it is cached, by looking at folders only."""
    chunks = _look(session.pipeline.dataset)
    at = _address(session.pipeline.dataset, chunks)
    found = _load(session.cache.path("scan", at), at) if session.cache.holds("scan", at) else None
    return sum(len(chunk.files) for chunk in chunks), found


def _look(chosen: Chosen[Dataset[Any]]) -> list[_Chunk]:
    """Return the files as they lie there."""
    return [_Chunk(_chunk_address(chosen, files), files) for files in _chunks(chosen.build().files())]


def _address(chosen: Chosen[Dataset[Any]], chunks: list[_Chunk], passing: _Passing | None = None) -> str:
    """Address of the scan of these chunks, of which the ``passing`` ones hold files that cannot be opened now."""
    lacking = {
        at: [found.source for found in chunk if isinstance(found, Skipped)] for at, chunk in (passing or {}).items()
    }
    parts = {"dataset": chosen.full_identity, "chunks": [chunk.address for chunk in chunks]}
    return address("scan", **parts, **({"lacking": lacking} if lacking else {}))


def _load(folder: Path, at: str) -> Scan:
    skipped = tuple(Skipped(row["source"], row["reason"]) for row in read_csv(folder / "skipped.csv"))
    return Scan(at, Catalogue(folder), skipped)


def _chunks(files: Iterable[SourceFile]) -> Iterator[tuple[SourceFile, ...]]:
    """Cut the files into pieces of one folder each, so that a new folder changes no other piece."""
    chunk: list[SourceFile] = []
    for file in files:
        if chunk and (len(chunk) == CHUNK or _folder(file) != _folder(chunk[0])):
            yield tuple(chunk)
            chunk = []
        chunk.append(file)
    if chunk:
        yield tuple(chunk)


def _folder(file: SourceFile) -> str:
    return file.path.rpartition("/")[0]


def _chunk_address(chosen: Chosen[Dataset[Any]], files: tuple[SourceFile, ...]) -> str:
    stamps = [[file.path, file.size, file.mtime_ns] for file in files]
    return address("headers", dataset=chosen.identity, files=stamps)


# --- headers ------------------------------------------------------------------------------------------------------


def _inspect(session: Session, chosen: Chosen[Dataset[Any]], chunks: list[_Chunk]) -> _Passing:
    """Read the headers that are not cached yet, in worker processes; return what is not to be cached."""
    missing = [chunk for chunk in chunks if session.cache.json("headers", chunk.address) is None]
    passing: _Passing = {}
    if not missing:
        return passing
    work = partial(inspect_chunk, chosen, session.cache.folder)
    for outcome in session.parallel("scan", work, missing, total=len(missing), name=lambda chunk: chunk.address):
        found = outcome.result if isinstance(outcome, compute.Done) else _inspect_alone(session, chosen, outcome.item)
        if found:
            passing[outcome.item.address] = found
    return passing


def inspect_chunk(chosen: Chosen[Dataset[Any]], cache: Path, chunk: _Chunk) -> list[_Found]:
    """Read the headers of some files and cache what they say. Runs in a worker process.

    Where one is skipped for what may pass, nothing is cached, and what was found is returned.
    """
    dataset = chosen.build()
    return _keep(Cache(cache), chunk, [_inspected(dataset, file) for file in chunk.files])


def _keep(cache: Cache, chunk: _Chunk, found: list[_Found]) -> list[_Found]:
    if any(isinstance(one, Skipped) and one.retry for one in found):
        return found
    plain = [one.reason if isinstance(one, Skipped) else one for one in found]
    write_text(cache.path("headers", chunk.address, ".json"), json.dumps(plain, separators=(",", ":")))
    return []


def _inspected(dataset: Dataset[Any], file: SourceFile) -> _Found:
    try:
        return dataset.inspect(file)
    except Exception as error:  # damaged files may make a parser raise anything
        _log.debug("inspecting %s failed", file.path, exc_info=True)
        reason = f"its header cannot be read ({type(error).__name__})"
        return Skipped(file.path, reason, retry=isinstance(error, OSError))


def _inspect_alone(session: Session, chosen: Chosen[Dataset[Any]], chunk: _Chunk) -> list[_Found]:
    """Find the file of a chunk that killed its worker or hung: each file by itself."""
    singles = [_Chunk(_chunk_address(chosen, (file,)), (file,)) for file in chunk.files]
    work = partial(inspect_chunk, chosen, session.cache.folder)
    found: dict[str, _Found] = {}
    for outcome in session.parallel("scan", work, singles, total=len(singles), name=lambda single: single.address):
        file = outcome.item.files[0]
        if isinstance(outcome, compute.Lost):
            found[file.path] = Skipped(file.path, outcome.reason, retry="memory" in outcome.reason)
        else:
            found[file.path] = (outcome.result or [_read_chunk(session.cache, outcome.item)[0][1]])[0]
    return _keep(session.cache, chunk, [found[file.path] for file in chunk.files])


def _read_chunk(cache: Cache, chunk: _Chunk) -> list[tuple[SourceFile, _Found]]:
    found = cache.json("headers", chunk.address)
    return [
        (file, Skipped(file.path, one) if isinstance(one, str) else one)
        for file, one in zip(chunk.files, found, strict=True)
    ]


def _headers(cache: Cache, chunks: list[_Chunk], passing: _Passing) -> Iterator[tuple[SourceFile, _Found]]:
    for chunk in chunks:
        found = passing.get(chunk.address)
        yield from zip(chunk.files, found, strict=True) if found else _read_chunk(cache, chunk)


# --- volumes ------------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    dataset: Dataset[Any],
    chosen: Chosen[Dataset[Any]],
    headers: Iterator[tuple[SourceFile, _Found]],
) -> None:
    """Arrange headers into volumes and write the catalogue, and what is left out with its reason."""
    skipped: list[Skipped] = []
    left: set[str] = set()

    def accepted() -> Iterator[tuple[SourceFile, Mapping[str, Any]]]:
        for file, found in headers:
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                left.add(file.path)
                yield file, found

    def volumes() -> Iterator[Volume]:
        for found in dataset.arrange(accepted()):
            if isinstance(found, Skipped):
                skipped.append(found)
                left.discard(found.source)
            else:
                left.difference_update(file.path for file in found.files)
                yield found

    write_catalogue(folder, volumes(), chosen.identity)
    skipped.extend(Skipped(path, "the data set's plugin did not say what it is") for path in left)
    skipped.sort(key=lambda skip: skip.source)
    write_csv(folder / "skipped.csv", ("source", "reason"), ((skip.source, skip.reason) for skip in skipped))


def _nothing(dataset: Dataset[Any], files: int, skipped: tuple[Skipped, ...]) -> str:
    where = f" in {dataset.root}" if dataset.root else ""
    if not files:
        return f"there is not a single file{where}"
    reasons: dict[str, int] = {}
    for skip in skipped:
        reasons[skip.reason] = reasons.get(skip.reason, 0) + 1
    common = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    listed = "; ".join(f"{count} x {reason}" for reason, count in common)
    return f"there is not a single CT volume among {files} files{where}: {listed}"
