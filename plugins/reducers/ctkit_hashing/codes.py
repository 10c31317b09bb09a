"""Difference hashes of slices, packed into codes, and the Hamming distances between codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools
from ctkit_hashing.lanczos import reduced


def dhash(grey: NDArray[np.uint8], side: int = 8) -> Bools:
    """Difference hash (n, side * side) of slices (n, rows, columns): is the right neighbour brighter?

    Bit for bit ``imagehash.dhash``: Pillow's LANCZOS to ``side + 1`` columns and ``side`` rows.

    >>> ramp = np.tile(np.arange(0, 252, 7, dtype=np.uint8), (2, 36, 1))  # 2 slices, brighter to the right
    >>> ramp[1] = ramp[1, :, ::-1]  # the second is mirrored
    >>> codes = packed(dhash(ramp))
    >>> int(hamming(codes[0], codes[1]))  # all 64 bits differ
    64
    """
    small = reduced(grey, side, side + 1)
    brighter: Bools = small[:, :, 1:] > small[:, :, :-1]
    return brighter.reshape(len(grey), side * side)


def packed(bits: Bools) -> NDArray[np.uint64]:
    """Pack bits (n, m), m a multiple of 64, into words (n, m / 64), the first bit the highest."""
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


def hamming(some: NDArray[np.uint64], many: NDArray[np.uint64]) -> NDArray[Any]:
    """Differing bits between codes (..., words), broadcast; in the smallest type that holds them."""
    words = some.shape[-1]
    apart: NDArray[Any] = np.bitwise_count(some[..., 0] ^ many[..., 0])
    if words > 1:
        apart = apart.astype(np.uint16)
    for word in range(1, words):
        apart += np.bitwise_count(some[..., word] ^ many[..., word])
    return apart
