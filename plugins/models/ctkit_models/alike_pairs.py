"""How many pairs in a batch are near-copies of each other: the mechanism by which reduction is said to help."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_models.slices import Batches

ALIKE = 6  #: bits of 64 that alike slices differ in at most: the threshold of Wolf et al. 2024


class AlikePairs:
    """The share of a batch's pairs whose hashes differ in ``ALIKE`` bits or less; each slice is hashed once.

    Hashes are of slices as they are stored for training, in that rendering and size, and before augmentation: near the
    hashes that the reducer ``hash`` compares, which are of the full slice from its own minimum to its own maximum, but
    not the same.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._codes = np.zeros((len(batches.rows), 1), np.uint64)
        self._known = np.zeros(len(batches.rows), bool)

    def share(self, step: int) -> float:
        """The share among pairs that are compared at ``step`` (from 0): of the whole batch, or of a part of it."""
        members = self._batches.members(step)
        new = members[~self._known[members]]
        if len(new):
            self._codes[new] = packed(dhash(self._batches.pixels(new)))
            self._known[new] = True
        parts = np.split(self._codes[members], self._batches.parts)
        return float(np.mean([alike_share(part) for part in parts]))


def alike_share(codes: NDArray[np.uint64]) -> float:
    """Share of the pairs of ``n`` codes (n, words), n at least 2, that differ in ``ALIKE`` bits or less."""
    n = len(codes)
    alike = int(np.count_nonzero(hamming(codes[:, None], codes[None]) <= ALIKE))
    return (alike - n) / (n * (n - 1))
