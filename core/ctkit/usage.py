"""Who uses which entry of a cache: a record for each run folder, kept in the cache so that cleaning finds them all.

A record is a text of lines: ``@START PATH``, seconds since 1970 and the run folder, for each start of the run, and the
entries that it asked for since, below the cache's folder. Lines are only ever added.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ctkit.errors import StorageError

FOLDER = "users"  #: of the records, in the cache
_DEPTH = 3  #: an entry is ``kind/ab/abcdef...``; what lies below belongs to it


@dataclass(frozen=True)
class User:
    """A run folder, when it was started last, and the entries it ever asked for."""

    run: Path
    started: float  #: seconds since 1970
    entries: frozenset[str]


class Usage:
    """Notes what one start of a run asks for."""

    def __init__(self, cache: Path, record: TextIO, known: frozenset[str]) -> None:
        self._cache = cache
        self._record = record
        self._known = known
        self._seen: set[str] = set()

    @classmethod
    @contextmanager
    def noting(cls, cache: Path, run: Path) -> Iterator[Usage]:
        """Open the record of a run. Raises ``StorageError`` where it cannot be written."""
        path = cache / FOLDER / hashlib.sha256(str(run).encode()).hexdigest()[:16]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            earlier = _read(path)
            record = path.open("a", encoding="utf-8", errors="surrogateescape", buffering=1)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        with record:
            record.write(f"@{time.time():.3f} {run}\n")
            yield cls(cache, record, earlier.entries if earlier else frozenset())

    def note(self, path: Path) -> None:
        """Note that the entry at ``path`` is in use now; its time of change becomes that of its last use."""
        entry = "/".join(path.relative_to(self._cache).parts[:_DEPTH])
        if entry in self._seen:
            return
        self._seen.add(entry)
        if entry not in self._known:
            self._record.write(f"{entry}\n")
        with suppress(OSError):  # it is not there yet, or is somebody else's
            os.utime(self._cache / entry)


def users(cache: Path) -> list[User]:
    """Every run that ever used a cache."""
    return [user for path in sorted((cache / FOLDER).glob("*")) if (user := _read(path)) is not None]


def _read(path: Path) -> User | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    starts = [line for line in lines if line.startswith("@")]
    if not starts:
        return None
    moment, _, run = starts[-1][1:].partition(" ")
    return User(Path(run), float(moment), frozenset(line for line in lines if not line.startswith("@")))
