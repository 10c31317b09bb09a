"""The paper's greedy selection: keep a slice unless it is alike to one that is already kept.

Going through the slices in order, the first is kept and removes every later slice that is alike to it; the next one
left is kept, and so on. Two slices are alike when their distance is at most the threshold. The first kept slice that
removes a slice stands for it.

A larger threshold may keep *more* slices, for it may remove the one slice that stood for several others. With Hamming
distances between the codes 0, 0b111, 0b11111, 0b1100111, threshold 2 keeps the first two (the second removes the last
two), and threshold 3 keeps three (the first removes the second, and the last two are 4 bits apart).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group, Ints, P, Reducer

Distances = NDArray[Any]
Between = Callable[[NDArray[Any], NDArray[Any]], Distances]

BLOCK = 1024  #: slices decided at a time, and kept slices compared at a time: a block of distances stays in cache
HELD = 1 << 26  #: bytes of a group's evidence up to which that of kept slices is held in memory, not looked up in it


class Similarity(Reducer[P], ABC):
    """A reducer that drops a slice when an earlier kept one is alike.

    With evidence "slice" a subclass gives ``distances``; with evidence "pair" its ``describe`` has given them already.
    """

    def distances(self, some: NDArray[Any], many: NDArray[Any]) -> Distances:
        """Distances (m, n), in the knob's unit, from evidence (m, ...) to evidence (n, ...)."""
        raise TypeError(f"{type(self).__name__} has evidence {self.evidence!r} but no distances")

    def kept(self, at: float) -> Kept:
        """Return an empty store of kept slices; a subclass may know one that is faster to search."""
        return Kept(self.distances, at)

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Go through the group once; ``by`` is the first kept slice that a dropped one is alike to."""
        evidence = evidence_of(group)
        if self.evidence == "pair":
            n = len(group)
            by, distance = _first_alike(lambda i, later: evidence[condensed(i, later, n)], n, at)
        else:
            by, distance = _select_in_blocks(evidence, at, self.distances, self.kept(at))
        return Decision(by < 0, by, distance)


def evidence_of(group: Group) -> NDArray[Any]:
    """Return the evidence of a group whose reducer declared that it has some."""
    if group.evidence is None:
        raise TypeError("this reducer selects from evidence, and the group has none")
    return group.evidence


class Kept:
    """The evidence of the slices kept so far, in order, searched one by one."""

    def __init__(self, distances: Between, at: float) -> None:
        self.distances = distances
        self.at = at
        self.whole: NDArray[Any] | None = None  #: evidence of the group where it is large; chunks are places in it
        self.chunks: list[Any] = []

    def add(self, evidence: NDArray[Any], places: Ints) -> None:
        """Append the evidence (m, ...) of newly kept slices, which lie at ``places`` (m,) of the group."""
        evidence = evidence if self.whole is None else places
        if not len(evidence):
            return
        if self.chunks and len(self.chunks[-1]) < BLOCK:
            evidence = np.concatenate([self.chunks.pop(), evidence])
        self.chunks.append(evidence)

    def first_alike(self, evidence: NDArray[Any]) -> tuple[Ints, NDArray[np.float32]]:
        """For each of (m, ...) the number of the first kept slice alike to it, -1 for none, and the distance."""
        number, distance = nobody(len(evidence))
        left = np.arange(len(evidence))
        before = 0
        for chunk in self.chunks:
            first, apart = self.first_in(chunk, evidence[left])
            found = first >= 0
            number[left[found]] = before + first[found]
            distance[left[found]] = apart[found]
            left = left[~found]
            before += len(chunk)
        return number, distance

    def first_in(self, chunk: Any, evidence: NDArray[Any]) -> tuple[Ints, NDArray[Any]]:
        """As ``first_alike``, among the slices of one chunk; the distance is arbitrary where there is none."""
        apart = self.distances(evidence, chunk if self.whole is None else self.whole[chunk])
        first = (apart <= self.at).argmax(axis=1)
        nearest = apart[np.arange(len(first)), first]
        return np.where(nearest <= self.at, first, -1), nearest


def _select_in_blocks(
    evidence: NDArray[Any], at: float, distances: Between, kept: Kept
) -> tuple[Ints, NDArray[np.float32]]:
    """Greedy selection over evidence (n, ...): each block against the kept before it, then within itself."""
    by, distance = nobody(len(evidence))
    kept_at, many = np.empty(len(evidence), np.int64), 0  # positions of the kept slices, and how many there are
    kept.whole = evidence if evidence.nbytes > HELD else None
    for start in range(0, len(evidence), BLOCK):
        block = np.asarray(evidence[start : start + BLOCK])
        number, apart = kept.first_alike(block)
        position = start + np.arange(len(block))
        removed = number >= 0
        by[position[removed]] = kept_at[number[removed]]
        distance[position[removed]] = apart[removed]

        position, block = position[~removed], block[~removed]
        number, apart = _first_alike(_between(block, distances), len(block), at)
        removed = number >= 0
        by[position[removed]] = position[number[removed]]
        distance[position[removed]] = apart[removed]

        new = position[~removed]
        kept.add(block[~removed], new)
        kept_at[many : many + len(new)] = new
        many += len(new)
    return by, distance


def _first_alike(apart: Callable[[int, Ints], Distances], n: int, at: float) -> tuple[Ints, NDArray[np.float32]]:
    """Greedy selection where ``apart(i, later)`` gives the distances from slice i to the slices ``later`` (m,)."""
    by, distance = nobody(n)
    left = np.arange(n)
    while len(left):
        kept, left = left[0], left[1:]
        found = apart(kept, left)
        alike = found <= at
        removed = left[alike]
        by[removed] = kept
        distance[removed] = found[alike]
        left = left[~alike]
    return by, distance


def _between(evidence: NDArray[Any], distances: Between) -> Callable[[int, Ints], Distances]:
    """Compute distances between slices of evidence (n, ...)."""
    return lambda i, later: distances(evidence[i : i + 1], evidence[later])[0]


def condensed(i: Any, j: Any, n: int) -> Any:
    """Places of pairs i < j of ``n`` slices, numbers or arrays of them, in a condensed triangle, as of ``pdist``."""
    return i * (2 * n - i - 1) // 2 - i - 1 + j


def nobody(n: int) -> tuple[Ints, NDArray[np.float32]]:
    """For ``n`` slices that none is alike to, -1 and NaN each."""
    return np.full(n, -1), np.full(n, np.nan, np.float32)
