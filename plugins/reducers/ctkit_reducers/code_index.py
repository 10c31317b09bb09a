"""An exact index of codes: multi-index hashing (Norouzi et al., CVPR 2012).

Codes of which at most ``at`` bits differ are equal in at least one of ``at + 1`` bands of bits, so a search need look
only at codes that share a band.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints
from ctkit_hashing.codes import hamming
from ctkit_reducers.similarity import Between, Kept, nobody

WIDEST_BAND = 16  #: bits of a band that are looked up; more would make tables larger than the codes
PROBE_COST = 8  #: comparing one code found through the index costs as much as comparing this many in a row
AT_ONCE = 1 << 21  #: codes looked up at a time, about 60 MB


def worth_indexing(bits: int, at: int) -> bool:
    """Tell whether bands are wide enough that evenly spread codes share one with few others."""
    bands = at + 1
    return bands * PROBE_COST < 1 << min(bits // bands, WIDEST_BAND)


class KeptCodes(Kept):
    """Kept codes (n, words), indexed by bands; searched one by one where the bands tell too little apart."""

    def __init__(self, distances: Between, at: int, bits: int) -> None:
        super().__init__(distances, at)
        self.bands = at + 1
        self.width = min(bits // self.bands, WIDEST_BAND)
        self.codes = np.empty((0, bits // 64), np.uint64)
        self.keys = np.empty((self.bands, 0), np.uint16)
        self._sort()

    def add(self, evidence: NDArray[Any]) -> None:
        """Append codes and sort the bands anew."""
        super().add(evidence)
        self.codes = np.concatenate([self.codes, evidence])
        self.keys = np.concatenate([self.keys, self._band_keys(evidence)], axis=1)
        self._sort()

    def first_alike(self, evidence: NDArray[Any]) -> tuple[Ints, NDArray[np.float32]]:
        """As ``Kept.first_alike``, and equal to it."""
        keys = self._band_keys(evidence).astype(np.int64)
        low = np.take_along_axis(self.starts, keys, axis=1)
        count = np.take_along_axis(self.starts, keys + 1, axis=1) - low
        if count.sum() * PROBE_COST > len(evidence) * len(self.codes):
            return super().first_alike(evidence)
        first = np.full(len(evidence), len(self.codes))
        for band in range(self.bands):
            for query, found in self._sharing(band, low[band], count[band]):
                near = hamming(evidence[query], self.codes[found]) <= self.at
                np.minimum.at(first, query[near], found[near])
        number, distance = nobody(len(evidence))
        alike = first < len(self.codes)
        number[alike] = first[alike]
        distance[alike] = hamming(evidence[alike], self.codes[first[alike]])
        return number, distance

    def _sharing(self, band: int, low: Ints, count: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Pairs (query, kept code) that share a band: ``count`` codes from ``low`` on for each query."""
        pieces = np.searchsorted(count.cumsum(), np.arange(AT_ONCE, count.sum(), AT_ONCE))
        for queries in np.split(np.arange(len(count)), pieces):
            times = count[queries]
            skipped = np.repeat(times.cumsum() - times, times)
            place = np.repeat(low[queries], times) + np.arange(times.sum()) - skipped
            yield np.repeat(queries, times), self.order[band, place]

    def _band_keys(self, codes: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Each band of each code as a number (bands, n). Bands take bits in turn, for neighbouring bits often agree."""
        bits = np.unpackbits(codes.astype(">u8").view(np.uint8), axis=1)
        weight = 1 << np.arange(self.width, dtype=np.uint16)
        return np.stack([bits[:, band :: self.bands][:, : self.width] @ weight for band in range(self.bands)])

    def _sort(self) -> None:
        """Order the kept by key, earlier ones first, and note where each key starts: (bands, 2 ** width + 1)."""
        self.order = self.keys.argsort(axis=1, kind="stable")
        self.starts = np.zeros((self.bands, (1 << self.width) + 1), np.int64)
        for band, keys in enumerate(self.keys):
            self.starts[band, 1:] = np.bincount(keys, minlength=1 << self.width).cumsum()
