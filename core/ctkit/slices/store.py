"""The slice store: one shard a volume, rows of one size in 8 bits, to be memory-mapped.

A shard holds the rows that some arm keeps. When another arm wants more rows of the same volume, a wider shard is
written beside the first; arms refer to whichever shard holds all they need.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Rows
from ctkit.slices.rendering import VERSION
from ctkit.storage import Cache, address

_KIND = "store"
_PIXELS, _FACTS = "pixels.npy", "shard.json"


@dataclass(frozen=True)
class Shard:
    """Where the slices ``index`` of one volume lie: row i of ``pixels`` is slice ``index[i]``."""

    pixels: Path
    index: Ints  #: (m,) ascending
    sums: Ints  #: (m, 2) each row's sum and sum of squares of grey levels

    def rows_of(self, wanted: Ints) -> Ints:
        """Row numbers of the slices ``wanted``, all of which must be here."""
        return np.searchsorted(self.index, wanted)

    def holds(self, wanted: Ints) -> bool:
        """Whether every wanted slice is here."""
        return bool(np.isin(wanted, self.index).all())


class SliceStore:
    """Shards of one rendering in the cache."""

    def __init__(self, cache: Cache, rendering: object) -> None:
        self._cache = cache
        self._rendering = address("rendering", rendering=rendering, version=VERSION)

    def _kind(self, volume: str) -> str:
        """Kind of the entries that hold rows of a volume."""
        folder = self._cache.path(_KIND, address("shards", volume=volume, rendering=self._rendering))
        return folder.relative_to(self._cache.folder).as_posix()

    def find(self, volume: str, wanted: Ints) -> Shard | None:
        """Return the smallest shard of the volume with this address that holds the wanted slices, and is whole."""
        kind = self._kind(volume)
        folders = (self._cache.folder / kind).glob("[0-9a-f][0-9a-f]/[0-9a-f]*")
        shards = (_load(folder) for folder in folders if self._cache.holds(kind, folder.name))
        return min((shard for shard in shards if shard.holds(wanted)), key=lambda shard: len(shard.index), default=None)

    def write(self, volume: str, index: Ints, pixels: NDArray[np.uint8]) -> Shard:
        """Write rows (m, size, size) of the slices ``index`` of a volume as one shard."""
        name = address("rows", index=index.tolist())
        kind = self._kind(volume)
        sums = np.array([_sums(row) for row in pixels], np.int64).reshape(-1, 2)
        facts = {"index": index.tolist(), "sums": sums.tolist()}
        with self._cache.entry(kind, name) as folder:
            np.save(folder / _PIXELS, pixels)
            (folder / _FACTS).write_text(json.dumps(facts))
        return Shard(self._cache.path(kind, name) / _PIXELS, index, sums)


def _load(folder: Path) -> Shard:
    facts = json.loads((folder / _FACTS).read_text())
    sums = np.array(facts["sums"], np.int64).reshape(-1, 2)
    return Shard(folder / _PIXELS, np.array(facts["index"], np.int64), sums)


def gather(parts: Sequence[tuple[int, Shard, Ints]], size: int) -> Rows:
    """Make an arm's rows from (number of the volume, its shard, the slices to take of it)."""
    counts = [len(wanted) for _, _, wanted in parts]
    rows = [shard.rows_of(wanted) for _, shard, wanted in parts]
    sums = np.zeros(2, np.float64)
    for (_, shard, _), taken in zip(parts, rows, strict=True):
        sums += shard.sums[taken].sum(0)
    pixels = max(sum(counts), 1) * size * size
    mean = sums[0] / pixels / 255
    return Rows(
        shards=tuple(shard.pixels for _, shard, _ in parts),
        shard=np.repeat(np.arange(len(parts)), counts),
        row=np.concatenate(rows) if rows else np.zeros(0, np.int64),
        volume=np.repeat([number for number, _, _ in parts], counts),
        size=size,
        mean=float(mean),
        std=float(np.sqrt(max(sums[1] / pixels / 255**2 - mean**2, 0.0))),
    )


def _sums(row: NDArray[np.uint8]) -> tuple[int, int]:
    """Sum and sum of squares of the grey levels of one row, however large."""
    counts, levels = np.bincount(row.ravel(), minlength=256), np.arange(256)
    return int(counts @ levels), int(counts @ (levels * levels))
