"""Who uses which entry of a cache: a record for each run folder, kept in the cache so that cleaning finds them all.

A record is a text of lines: ``@START PATH``, seconds since 1970 and the run folder, for each start of the run, and the
entries that it asked for since, below the cache's folder. Lines are only ever added. While a run notes, it holds a lock
beside its record: its own folder may lie where who cleans cannot see it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from filelock import FileLock, Timeout

from ctkit.errors import LockedError, StorageError
from ctkit.files import storage_error
from ctkit.storage import KINDS, Cache, make_folder, spelled_one_way
from ctkit.storage.locks import PATIENCE, is_held

FOLDER = "users"  #: of the records, in the cache
_log = logging.getLogger("ctkit.cache")
_DEPTH = 3  #: an entry is ``kind/ab/abcdef...``; what lies below belongs to it


@dataclass(frozen=True)
class User:
    """A run folder, when it was started last, and the entries it ever asked for."""

    record: Path
    run: Path
    started: float  #: seconds since 1970
    entries: frozenset[str]

    @property
    def is_live(self) -> bool:
        """Whether a process notes what it asks for, on this machine or on another."""
        return any(is_held(lock) for lock in self.record.parent.glob(f"{self.record.name}.*.lock"))


class Usage:
    """Notes what one start of a run asks for."""

    def __init__(self, cache: Path, record: Path, file: FileIO, known: frozenset[str]) -> None:
        self._cache = cache
        self._record = record
        self._file = file
        self._known = known
        self._seen: set[str] = set()

    @classmethod
    @contextmanager
    def noting(cls, cache: Path, run: Path) -> Iterator[Usage]:
        """Open the record of a run and hold its lock.

        Raises ``StorageError`` where the record cannot be written, ``LockedError`` where another process holds it.
        """
        run = spelled_one_way(run)
        record = cache / FOLDER / _digest(str(run))
        # The same path may be another folder on another machine: they share a record, but each holds its own lock.
        lock = FileLock(record.with_name(f"{record.name}.{_digest(platform.node())}.lock"), timeout=PATIENCE)
        try:
            record.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            earlier = _read(record)
            file = record.open("ab", buffering=0)
        except Timeout as error:
            raise LockedError(f"another process is recording in {record} what {run} uses; wait for it") from error
        except OSError as error:
            raise StorageError(f"cannot write {record}: {error.strerror or error}") from error
        try:
            with file:
                usage = cls(cache, record, file, earlier.entries if earlier else frozenset())
                usage._write(f"\n@{time.time():.3f} {run}")  # a line that a full disk cut short ends here
                yield usage
        finally:
            lock.release()

    def note(self, path: Path) -> None:
        """Note that the entry at ``path`` is in use now; its time of change becomes that of its last use.

        Raises ``StorageError`` where the record cannot be written.
        """
        entry = "/".join(path.relative_to(self._cache).parts[:_DEPTH])
        if entry in self._seen:
            return
        if entry not in self._known:
            self._write(entry)
        self._seen.add(entry)
        with suppress(OSError):  # it is not there yet, or is somebody else's
            os.utime(self._cache / entry)

    def _write(self, line: str) -> None:
        """Append a line at once: no buffer is left that a full disk would refuse once more at the end."""
        data = f"{line}\n".encode(errors="surrogateescape")
        try:
            while data:  # a disk that fills takes a part first
                data = data[self._file.write(data) :]
        except OSError as error:
            raise storage_error(self._record, self._record, error) from error


@contextmanager
def used_by(cache: Cache, run: Path) -> Iterator[None]:
    """Note which entries of a cache a run asks for, and when, until the block ends: what is cleaned later needs it.

    The cache is closed to others, unless somebody only looks: then nothing is noted where the cache cannot be written.
    """
    with ExitStack() as stack:
        if not cache.looking:
            stack.enter_context(_closed_to_others(cache))
        try:
            cache.asked = stack.enter_context(Usage.noting(cache.folder, run)).note
        except StorageError:
            if not cache.looking:
                raise
        try:
            yield
        finally:
            cache.asked = None


@contextmanager
def _closed_to_others(cache: Cache) -> Iterator[None]:
    """Make a cache's folder for its user alone, and close an older one to others, so that they cannot read it.

    A folder with the set-group-ID bit is its group's as well: what a run writes, the group may change. One that holds
    what is not ctkit's stays as it is, with a warning. Raises ``StorageError`` where the salt may not be read.
    """
    folder = cache.folder
    made = not folder.exists()
    make_folder(folder)
    if os.name == "nt":  # which has no such bits
        yield
        return
    if made:
        folder.chmod(0o700)
    mode = stat.S_IMODE(folder.stat().st_mode)
    shared = mode & stat.S_ISGID
    if others := mode & (0o007 if shared else 0o077):
        try:
            if not {path.name for path in folder.iterdir()} <= KINDS | {FOLDER, "salt", ".salt.lock"}:
                raise PermissionError
            folder.chmod(mode & ~others)
        except OSError:
            _log.warning("others may read the cache, which is not ctkit's alone: CTKIT_CACHE gives it another folder")
    try:
        cache.pseudonym("")  # which makes a salt
    except PermissionError as error:
        raise StorageError(f"cannot read {error.filename}: {error.strerror}") from error
    with suppress(OSError):  # it is somebody else's
        (folder / "salt").chmod(0o660 if shared else 0o600)
    umask = os.umask(0)
    os.umask(umask & ~0o070 if shared else umask)
    try:
        yield
    finally:
        os.umask(umask)


def users(cache: Path) -> list[User]:
    """Every run that ever used a cache."""
    return [user for path in _records(cache) if (user := _read(path)) is not None]


def state(cache: Path) -> tuple[tuple[str, int], ...]:
    """Return the names and sizes of the records: they change when a run starts, or asks for what it never asked for."""
    return tuple((path.name, path.stat().st_size) for path in _records(cache))


def _records(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / FOLDER).glob("*") if path.suffix != ".lock")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _read(record: Path) -> User | None:
    try:
        text = record.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
    lines = text.split("\n")[:-1]  # what a full disk cut short is left out
    starts = [line for line in lines if line.startswith("@")]
    if not starts:
        return None
    moment, _, run = starts[-1][1:].partition(" ")
    entries = frozenset(line for line in lines if line and not line.startswith("@"))
    return User(record, Path(run), float(moment), entries)
