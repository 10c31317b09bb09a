"""Freeing the cache: by age, by size or by run, and what killed writers left; never what a live run uses."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ctkit.console import quantities
from ctkit.errors import LockedError, RequestError, StorageError, nearest
from ctkit.session.usage import User, state, users
from ctkit.storage import KINDS

LEFTOVERS = "incomplete files of killed processes"
_BELOW = "[0-9a-f][0-9a-f]"  #: of a kind: the folders that hold entries
_ENTRY = re.compile(r"[0-9a-f]{64}(\.entry|\.json|\.npy)?")  #: a lock beside a workspace is none


@dataclass(frozen=True)
class CacheEntry:
    """One result in the cache."""

    path: Path
    kind: str
    used: float  #: when it was used last, seconds since 1970
    size: int  #: bytes that freeing it gives back
    shared: int  #: bytes that a run folder has too, by hard link; such a result goes only with its run


@dataclass(frozen=True)
class Wish:
    """What is to go; an entry goes where any of these says so."""

    older_than: float | None = None  #: seconds since it was used last
    keep_below: int | None = None  #: bytes that may stay; what was not used for longest goes first
    run: Path | None = None  #: a run folder: what only this run uses


@dataclass(frozen=True)
class Cleaning:
    """What a wish comes to."""

    cache: Path
    entries: tuple[CacheEntry, ...]  #: to be freed
    spared: int  #: entries that live runs use, which stay whatever is wished
    shared: int  #: bytes of entries that stay which run folders have too, so that removing them would free nothing

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
    live = [user for user in known if user.is_live]
    if wish.run is not None:
        _refuse(wish.run, known, live)
    entries = sorted(_entries(cache), key=lambda entry: entry.used)
    idle = [entry for entry in entries if not _in_use(cache, entry, live)]
    total = sum(entry.size for entry in entries)
    wanted = list(_wanted(cache, idle, total, known, wish))
    folders = {entry.path for entry in wanted}
    leftovers = [entry for entry in _leftovers(cache) if not folders.intersection(entry.path.parents)]
    abandoned = (entry for entry in leftovers if not _in_use(cache, entry, live))
    shared = sum(entry.shared for entry in entries if entry.path not in folders)
    return Cleaning(cache, (*wanted, *abandoned), len(entries) - len(idle), shared)


def free(cleaning: Cleaning) -> int:
    """Remove what was planned, but for what was used since, and return how many bytes that gave back.

    Each entry goes at once, by a rename; a killed cleaning leaves a leftover. Raises ``StorageError`` where an entry
    cannot be removed, after all others are gone.
    """
    freed, refused = 0, list[OSError]()

    @lru_cache(1)
    def live(records: tuple[tuple[str, int], ...]) -> list[User]:
        """The live users while the cache has these records; one that ended since may still be among them."""
        return [user for user in users(cleaning.cache) if user.is_live]

    for entry in cleaning.entries:
        try:
            if entry.path.stat().st_mtime == entry.used and not _in_use(
                cleaning.cache, entry, live(state(cleaning.cache))
            ):
                _remove(entry.path)
                freed += entry.size
        except FileNotFoundError:  # somebody else cleans too
            continue
        except OSError as error:
            refused.append(error)
    if refused:
        raise StorageError(
            f"cannot remove {refused[0].filename}: {refused[0].strerror}; of {len(cleaning.entries)} entries "
            f"{len(refused)} could not be removed; {quantities.size(freed)} freed"
        ) from refused[0]
    return freed


def _remove(path: Path) -> None:
    aside = path.with_name(f".{secrets.token_hex(8)}.part")
    path.rename(aside)
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)


def _refuse(run: Path, known: Iterable[User], live: Iterable[User]) -> None:
    runs = {user.run for user in known}
    if run not in runs:
        beside = [other.name for other in runs if other.parent == run.parent]
        raise RequestError(f"no run in {run} uses this cache; {nearest(run.name, beside)}")
    if run in {user.run for user in live}:
        raise LockedError(f"a process is running in {run}; its results are not freed")


def _wanted(cache: Path, entries: list[CacheEntry], total: int, known: list[User], wish: Wish) -> Iterator[CacheEntry]:
    """Choose from entries that are sorted by their last use; ``total`` bytes in the cache can be freed."""
    excess = 0 if wish.keep_below is None else total - wish.keep_below
    now = time.time()
    own = _only_of(wish.run, known) if wish.run is not None else frozenset()
    for entry in entries:
        old = wish.older_than is not None and now - entry.used > wish.older_than
        if ((old or excess > 0) and not entry.shared) or _name(cache, entry) in own:
            excess -= entry.size
            yield entry


def _only_of(run: Path, known: Iterable[User]) -> frozenset[str]:
    others = [user.entries for user in known if user.run != run]
    return next(user.entries for user in known if user.run == run).difference(*others)


def _in_use(cache: Path, entry: CacheEntry, live: Iterable[User]) -> bool:
    """Whether a live run asked for the entry, or may just have made it: its worker processes keep no record."""
    return any(_name(cache, entry) in user.entries or entry.used >= user.started for user in live)


def _name(cache: Path, entry: CacheEntry) -> str:
    return entry.path.relative_to(cache).as_posix()


def _entries(cache: Path) -> Iterator[CacheEntry]:
    for kind in sorted(KINDS - {"code"}):  # without what is known of a plugin's code, no change would be noticed
        found = (cache / kind).glob(f"{_BELOW}/*")
        yield from _existing((path for path in found if _ENTRY.fullmatch(path.name)), kind)


def _leftovers(cache: Path) -> Iterator[CacheEntry]:
    """What writers did not live to rename or to remove."""
    for kind in sorted(KINDS):
        yield from _existing((cache / kind).glob(f"{_BELOW}/**/.*.part"), LEFTOVERS)


def _existing(paths: Iterable[Path], kind: str) -> Iterator[CacheEntry]:
    for path in paths:
        with suppress(FileNotFoundError):  # a live run has just renamed or removed it
            files = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
            own, shared = (sum(file.st_size for file in files if (file.st_nlink > 1) is so) for so in (False, True))
            yield CacheEntry(path, kind, path.stat().st_mtime, own, shared)


def parse_size(text: str) -> int:
    """``"50GB"`` in bytes. Raises ``RequestError`` where it is no size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)B?\s*", text.replace("K", "k"))
    if not match:
        raise RequestError(f"must be a number with kB, MB, GB or TB, such as 50GB, but is {text!r}")
    return int(float(match[1]) * 1000 ** " kMGT".index(match[2] or " "))


def parse_age(text: str) -> float:
    """``"30d"`` in seconds. Raises ``RequestError`` where it is no age."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mhdw])\s*", text)
    if not match:
        raise RequestError(
            f"must be a number with m, h, d or w (minutes, hours, days, weeks), such as 30d, but is {text!r}"
        )
    return float(match[1]) * {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}[match[2]]
