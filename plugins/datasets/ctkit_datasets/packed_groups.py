"""Keeps what is known of many files in groups, compressed, until a group is complete and looked at."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

LOOSE = 10_000  #: items that wait as they are, before they are compressed

KeyT = TypeVar("KeyT", bound=Hashable)
ItemT = TypeVar("ItemT")


class PackedGroups(Generic[KeyT, ItemT]):
    """Lists of items by key, in the order of their first item; there may be millions, each list is taken once.

    Items of a group resemble each other, so that a slice of some 800 bytes takes about 30 while it waits.
    """

    def __init__(self) -> None:
        self._packed: dict[KeyT, list[bytes]] = {}
        self._loose: dict[KeyT, list[ItemT]] = {}
        self._count = 0  # of the loose ones

    def __iter__(self) -> Iterator[KeyT]:
        return iter(list(self._packed))

    def add(self, key: KeyT, items: Sequence[ItemT]) -> None:
        """Put items at the end of a group."""
        self._packed.setdefault(key, [])
        self._loose.setdefault(key, []).extend(items)
        self._count += len(items)
        if self._count >= LOOSE:
            for loose, waiting in self._loose.items():
                data = pickle.dumps(waiting, pickle.HIGHEST_PROTOCOL)
                self._packed[loose].append(zlib.compress(data, level=1))
            self._loose.clear()
            self._count = 0

    def take(self, key: KeyT) -> list[ItemT]:
        """Return the items of a group, in the order in which they came, and forget them."""
        items: list[ItemT] = []
        for piece in self._packed.pop(key):
            items += pickle.loads(zlib.decompress(piece))  # noqa: S301  # pickled above, never left the process
        loose = self._loose.pop(key, [])
        self._count -= len(loose)
        return items + loose
