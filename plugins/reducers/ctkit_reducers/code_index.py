"""An exact index of codes: multi-index hashing (Norouzi et al., CVPR 2012).

Codes of which at most ``at`` bits differ are equal in at least one of ``at + 1`` bands of bits, so a search need look
only at codes that share a band.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints
from ctkit_hashing.codes import hamming
from ctkit_reducers.similarity import BLOCK, Between, Kept

WIDEST_BAND = 16  #: bits of a band that are looked up; more would make tables larger than the codes
PROBE_COST = 8  #: comparing one code found through the index costs as much as comparing this many in a row
AT_ONCE = 1 << 21  #: codes looked up at a time, about 60 MB
SHORT, RATIO = 16384, 1  #: a run grows by the next one while it is shorter than this, or than that times the other


def worth_indexing(bits: int, at: int) -> bool:
    """Tell whether bands are wide enough that evenly spread codes share one with few others."""
    bands = at + 1
    return bands * PROBE_COST < 1 << min(bits // bands, WIDEST_BAND)


@dataclass(frozen=True)
class Run:
    """Codes kept one after the other, and their order by each band, earlier ones first among equal bands."""

    codes: NDArray[np.uint64]  #: (n, words)
    order: NDArray[np.int32]  #: (bands, n) positions in the run
    starts: Ints  #: (bands, 2 ** width + 1) where each value of the band starts in the order

    def __len__(self) -> int:
        return len(self.codes)

    def followed_by(self, other: Run) -> Run:
        """Merge with the run that was kept next: each of its codes lies behind all of this one's of equal band."""
        order = np.empty((len(self.order), len(self) + len(other)), np.int32)
        for whole, ours, theirs, our, their in zip(
            order, self.order, other.order, self.starts, other.starts, strict=True
        ):
            whole[np.arange(len(ours)) + np.repeat(their[:-1], np.diff(our))] = ours
            whole[np.arange(len(theirs)) + np.repeat(our[1:], np.diff(their))] = theirs + len(ours)
        return Run(np.concatenate([self.codes, other.codes]), order, self.starts + other.starts)


class KeptCodes(Kept):
    """Kept codes (n, words) in sorted runs, indexed by bands; searched one by one where bands tell too little apart."""

    def __init__(self, distances: Between, at: int, bits: int) -> None:
        super().__init__(distances, at)
        self.bands = at + 1
        self.width = min(bits // self.bands, WIDEST_BAND)
        self.waiting: list[NDArray[np.uint64]] = []  # kept since the last search: the codes of a last block need no run

    def add(self, evidence: NDArray[Any], places: Ints) -> None:
        """Append codes, which are small, to be sorted when the next search asks for it."""
        if len(evidence):
            self.waiting.append(evidence)

    def first_alike(self, evidence: NDArray[Any]) -> tuple[Ints, NDArray[np.float32]]:
        """As ``Kept.first_alike``, and equal to it."""
        if self.waiting:
            self.chunks.append(self._sorted(np.concatenate(self.waiting)))
            self.waiting = []
        while len(self.chunks) > 1 and len(self.chunks[-2]) < max(SHORT, RATIO * len(self.chunks[-1])):
            last = self.chunks.pop()
            self.chunks[-1] = self.chunks[-1].followed_by(last)
        return super().first_alike(evidence)

    def first_in(self, chunk: Run, evidence: NDArray[Any]) -> tuple[Ints, NDArray[Any]]:
        """As ``Kept.first_in``, by the run's bands."""
        keys = self._band_keys(evidence).astype(np.int64)
        low = np.take_along_axis(chunk.starts, keys, axis=1)
        count = np.take_along_axis(chunk.starts, keys + 1, axis=1) - low
        if count.sum() * PROBE_COST > len(evidence) * len(chunk):
            plain = Kept(self.distances, self.at)
            plain.chunks = [chunk.codes[start : start + BLOCK] for start in range(0, len(chunk), BLOCK)]
            return plain.first_alike(evidence)
        first = np.full(len(evidence), len(chunk))
        for band in range(self.bands):
            for query, found in _sharing(chunk.order[band], low[band], count[band]):
                near = hamming(evidence[query], chunk.codes[found]) <= self.at
                np.minimum.at(first, query[near], found[near])
        first[first == len(chunk)] = -1
        return first, hamming(evidence, chunk.codes[first])

    def _band_keys(self, codes: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Each band of each code as a number (bands, n). Bands take bits in turn, for neighbouring bits often agree."""
        bits = np.unpackbits(codes.astype(">u8").view(np.uint8), axis=1)
        weight = 1 << np.arange(self.width, dtype=np.uint16)
        return np.stack([bits[:, band :: self.bands][:, : self.width] @ weight for band in range(self.bands)])

    def _sorted(self, codes: NDArray[np.uint64]) -> Run:
        keys = self._band_keys(codes)
        starts = np.zeros((self.bands, (1 << self.width) + 1), np.int64)
        for start, own in zip(starts, keys, strict=True):
            start[1:] = np.bincount(own, minlength=1 << self.width).cumsum()
        return Run(codes, keys.argsort(axis=1, kind="stable").astype(np.int32), starts)


def _sharing(order: NDArray[np.int32], low: Ints, count: Ints) -> Iterator[tuple[Ints, NDArray[np.int32]]]:
    """Pairs (query, kept code) that share a band of this order: ``count`` codes from ``low`` on for each query."""
    pieces = np.searchsorted(count.cumsum(), np.arange(AT_ONCE, count.sum(), AT_ONCE))
    for queries in np.split(np.arange(len(count)), pieces):
        times = count[queries]
        skipped = np.repeat(times.cumsum() - times, times)
        place = np.repeat(low[queries], times) + np.arange(times.sum()) - skipped
        yield np.repeat(queries, times), order[place]
