"""Freeing the cache: by age, by size or by run, and what killed writers left; never what a live run uses."""

from __future__ import annotations

import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ctkit.errors import LockedError, RequestError, nearest
from ctkit.runs import RunFolder
from ctkit.usage import FOLDER, User, users

LEFTOVERS = "leftovers of killed writers"


@dataclass(frozen=True)
class Entry:
    """One result in the cache."""

    path: Path
    kind: str
    used: float  #: when it was used last, seconds since 1970
    size: int  #: bytes that freeing it gives back
    shown: bool  #: a run folder shares files of it by hard link; such a result goes only with its run


@dataclass(frozen=True)
class Wish:
    """What is to go; an entry goes where any of these says so."""

    older_than: float | None = None  #: seconds since it was used last
    keep_below: int | None = None  #: bytes that may stay; what was not used for longest goes first
    run: Path | None = None  #: a run folder: what only this run uses


@dataclass(frozen=True)
class Cleaning:
    """What a wish comes to."""

    entries: tuple[Entry, ...]  #: to be freed
    spared: int  #: entries that live runs use, which stay whatever is wished

    @property
    def size(self) -> int:
        """Bytes that are freed."""
        return sum(entry.size for entry in self.entries)

    @property
    def by_kind(self) -> list[tuple[str, int, int]]:
        """Kinds with the number of their entries and their bytes, the largest first."""
        counts, sizes = Counter(entry.kind for entry in self.entries), Counter[str]()
        for entry in self.entries:
            sizes[entry.kind] += entry.size
        return sorted(((kind, counts[kind], sizes[kind]) for kind in counts), key=lambda row: -row[2])


def plan(cache: Path, wish: Wish) -> Cleaning:
    """Say what would be freed. Raises ``RequestError`` for an unknown run and ``LockedError`` for a live one."""
    known = users(cache)
    live = [user for user in known if RunFolder(user.run).is_live]
    if wish.run is not None:
        _refuse(wish.run, known, live)
    entries = sorted(_entries(cache), key=lambda entry: entry.used)
    idle = [entry for entry in entries if not _in_use(cache, entry, live)]
    total = sum(entry.size for entry in entries)
    wanted = list(_wanted(cache, idle, total, known, wish))
    folders = {entry.path for entry in wanted}
    leftovers = [entry for entry in _leftovers(cache) if not folders.intersection(entry.path.parents)]
    abandoned = (entry for entry in leftovers if not _in_use(cache, entry, live))
    return Cleaning((*wanted, *abandoned), len(entries) - len(idle))


def free(cleaning: Cleaning) -> None:
    """Remove what was planned. Each entry goes at once, by a rename; a killed cleaning leaves a leftover."""
    for entry in cleaning.entries:
        aside = entry.path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            entry.path.rename(aside)
        except FileNotFoundError:  # somebody else cleans too
            continue
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _refuse(run: Path, known: Iterable[User], live: Iterable[User]) -> None:
    names = {user.run.name: user.run for user in known}
    if run not in names.values():
        raise RequestError(f"no run in {run} uses this cache; {nearest(run.name, names)}")
    if run in {user.run for user in live}:
        raise LockedError(f"a process is running in {run}; what it uses is not freed")


def _wanted(cache: Path, entries: list[Entry], total: int, known: list[User], wish: Wish) -> Iterator[Entry]:
    """Choose from entries that are sorted by their last use; ``total`` bytes are in the cache."""
    excess = 0 if wish.keep_below is None else total - wish.keep_below
    now = time.time()
    own = _only_of(wish.run, known) if wish.run is not None else frozenset()
    for entry in entries:
        old = wish.older_than is not None and now - entry.used > wish.older_than
        if ((old or excess > 0) and not entry.shown) or _name(cache, entry) in own:
            excess -= entry.size
            yield entry


def _only_of(run: Path, known: Iterable[User]) -> frozenset[str]:
    others = [user.entries for user in known if user.run != run]
    return next(user.entries for user in known if user.run == run).difference(*others)


def _in_use(cache: Path, entry: Entry, live: Iterable[User]) -> bool:
    """Whether a live run asked for the entry, or may just have made it: its worker processes keep no record."""
    return any(_name(cache, entry) in user.entries or entry.used >= user.started for user in live)


def _name(cache: Path, entry: Entry) -> str:
    return entry.path.relative_to(cache).as_posix()


def _entries(cache: Path) -> Iterator[Entry]:
    for kind in cache.iterdir() if cache.is_dir() else ():
        if kind.is_dir() and kind.name != FOLDER:
            yield from _existing(kind.glob("[0-9a-f][0-9a-f]/[0-9a-f]*"), kind.name)


def _leftovers(cache: Path) -> Iterator[Entry]:
    """What writers did not live to rename or to remove."""
    return _existing(cache.rglob(".*.part"), LEFTOVERS)


def _existing(paths: Iterable[Path], kind: str) -> Iterator[Entry]:
    for path in paths:
        with suppress(FileNotFoundError):  # a live run has just renamed or removed it
            files = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
            own = sum(file.st_size for file in files if file.st_nlink == 1)
            yield Entry(path, kind, path.stat().st_mtime, own, any(file.st_nlink > 1 for file in files))
