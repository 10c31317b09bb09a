"""Packs: small results of some hundred volumes in one entry of the cache, each of them sealed.

A pack begins and ends with its table: when it was written, and the name and length of each result between. So damage
costs the results that it hits, and no others. Of two results of one name the later one counts. An entry that has no
table is one result, under the entry's own name.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ctkit.files import sealed, unsealed, write_bytes
from ctkit.storage import ENTRY, Cache, address, parsed

MOST, BYTES, SECONDS = 256, 1 << 23, 5.0  #: results of a pack, their size, and the time since the pack before
_TABLE = "table"
_SEAL = len(sealed("", b""))
_Place = tuple[Path, int, int]  #: pack, start and length of a result
Shape = TypeVar("Shape")


class Packs:
    """The results of one kind in a cache, by name. What is added is written when enough has come together."""

    def __init__(self, cache: Cache, kind: str) -> None:
        self._cache, self._kind = cache, kind
        self._new: dict[str, bytes] = {}  # not written yet
        self._since = time.monotonic()  # when something was written
        self._last: tuple[Path, bytes] = Path(), b""  # the pack that was read last
        self._values: dict[str, Any] = {}  # of ``value``
        self._used = set[Path]()  # packs that were found to hold what was looked for
        sizes: dict[Path, int] = {}
        found = [self._table(path, sizes) for path in sorted((cache.folder / kind).glob(f"[0-9a-f][0-9a-f]/*{ENTRY}"))]
        self._places = {name: place for _, places in sorted(found, key=lambda one: one[0]) for name, place in places}
        for name, (pack, start, length) in [*self._places.items()]:
            if start + length + _SEAL > sizes[pack]:  # it was cut there; what was written since is another place
                self.drop(name)

    def __contains__(self, name: Any) -> bool:
        if name in self._places and (pack := self._places[name][0]) not in self._used:
            self._used.add(pack)
            self._cache.path(self._kind, pack.stem, ENTRY)  # it is in use
        return name in self._new or name in self._places

    def add(self, name: str, content: bytes, value: Any = None) -> None:
        """Add a result, or one that replaces an earlier one, and the ``value`` of it where that is known."""
        self._values[name] = value
        self._new[name] = content
        full = len(self._new) >= MOST or sum(map(len, self._new.values())) >= BYTES
        if full or time.monotonic() > self._since + SECONDS:
            self.write()

    def write(self) -> None:
        """Write what was added. Raises ``StorageError`` where the disk refuses."""
        if not self._new:
            return
        now, lengths = time.time_ns(), [(name, len(content)) for name, content in self._new.items()]
        path = self._cache.path(self._kind, address("pack", written=now, results=lengths), ENTRY)
        table = sealed(_TABLE, json.dumps([now, lengths]).encode())
        write_bytes(path, b"".join([table, *(sealed(f"{name}{ENTRY}", one) for name, one in self._new.items()), table]))
        self._places.update(_places(path, len(table), lengths))
        self._new, self._since, self._last = {}, time.monotonic(), (Path(), b"")

    def read(self, name: str) -> bytes | None:
        """Return a result; None where there is none, or it is damaged, which is said once of each pack."""
        if name in self._new or name not in self._places:
            return self._new.get(name)
        pack, start, length = self._places[name]
        if self._last[0] != pack:
            self._cache.path(self._kind, pack.stem, ENTRY)  # it is in use
            self._last = pack, b""
            with _unless_gone():
                self._last = pack, pack.read_bytes()
        content = unsealed(f"{name}{ENTRY}", self._last[1][start : start + length + _SEAL])
        if content is None:
            self.drop(name)
        return content

    def value(self, name: str, shape: type[Shape]) -> Shape | None:
        """Return a result in JSON as ``shape``, and keep it; as ``read``, where another shape is damage."""
        if self._values.get(name) is None and (content := self.read(name)) is not None:
            if (found := parsed(content, shape)) is None:
                self.drop(name)
                return None
            self._values[name] = found
        return self._values.get(name)

    def drop(self, name: str) -> None:
        """Forget a result that is damaged."""
        pack = self._places.pop(name)[0]
        if pack.exists():  # else it was cleaned since
            self._cache.say_damaged(pack)

    def _table(self, path: Path, sizes: dict[Path, int]) -> tuple[int, Iterable[tuple[str, _Place]]]:
        """When an entry was written and the places of its results; none where it is damaged, and discarded.

        Its size goes to ``sizes``.
        """
        with _unless_gone():
            with path.open("rb") as file:
                table = unsealed(_TABLE, file.readline() + file.readline())
                size = sizes[path] = file.seek(0, os.SEEK_END)
                file.seek(max(size - _SEAL, 0))
                with suppress(ValueError):
                    length = int(file.read()[8:24], 16)
                    if table is None and length == size - _SEAL:
                        return 0, [(path.stem, (path, 0, length))]
                    file.seek(max(size - _SEAL - length, 0))
                    table = table or unsealed(_TABLE, file.read())
            if table is not None:
                written, lengths = json.loads(table)
                return written, _places(path, len(table) + _SEAL, lengths)
        if path.exists():
            self._cache.discard(path)
        return 0, []


def packed(cache: Cache, kind: str) -> Packs:
    """The results of one kind in a cache, whose places are read once."""
    if kind not in cache.opened:
        cache.opened[kind] = Packs(cache, kind)
    return cache.opened[kind]  # type: ignore[no-any-return]


def _places(pack: Path, start: int, lengths: Iterable[tuple[str, int]]) -> Iterator[tuple[str, _Place]]:
    """Say where results of these names and lengths lie, one after the other from ``start`` on."""
    for name, length in lengths:
        yield name, (pack, start, length)
        start += length + _SEAL


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Go on where somebody has cleaned an entry, or the disk cannot read it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EIO):
            raise
