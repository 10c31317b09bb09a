"""Normalised mutual information of every two slices of a volume, on 64 grey levels.

NMI = 2 I(X; Y) / (H(X) + H(Y)), which is scikit-learn's with the arithmetic mean of the entropies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Floats, Ints, Params, knob
from ctkit_reducers.pairs import PairSimilarity, upper

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 64
SLICES_AT_ONCE = 32  #: on an accelerator; a block of joint histograms is then 2048 x 2048
PIXELS_AT_ONCE = 2048  #: on an accelerator; float16 counts that far without rounding


class MutualInformationParams(Params):
    """What counts as alike."""

    threshold: float | None = knob(
        None, low=0, high=1, unit="1 - NMI", description="largest distance between near-duplicates"
    )


class MutualInformation(PairSimilarity[MutualInformationParams]):
    """Drop a slice when 1 - NMI to an earlier kept one is at most ``threshold``.

    Slices of a single grey level are 0 apart from each other and 1 from the rest.
    """

    def similarity(self, grey: NDArray[np.uint8], device: str) -> Floats:
        """Normalised mutual information of every two slices."""
        levels = _levels(grey)
        joint = joint_entropy(levels) if device == "cpu" else joint_entropy_on(device, levels)
        own = _own_entropy(levels)
        return _normalised(upper(own[:, None] + own), upper(joint))

    def between(self, grey: NDArray[np.uint8]) -> Callable[[int, int], float]:
        """Normalised mutual information of two slices."""
        levels = _levels(grey)
        own, joint = _own_entropy(levels), joint_entropy_between(levels)
        return lambda i, j: float(_normalised(own[i] + own[j], np.asarray(joint(i, j))))


def _levels(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (grey // (256 // LEVELS)).reshape(len(grey), -1)


def _own_entropy(levels: NDArray[np.uint8]) -> Floats:
    entropy = _HistogramEntropy(levels.shape[1])
    return np.array([entropy(np.bincount(image)) for image in levels])


def _normalised(both: Floats, joint: Floats) -> Floats:
    """NMI from the sum of two slices' entropies and their joint entropy; 1 where there is no information."""
    found: Floats = np.divide(2 * (both - joint), both, out=np.ones_like(both), where=both > 0)
    return found


class _HistogramEntropy:
    """Shannon entropy in nats of histograms of so many pixels, by a table of c log c."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        count = np.arange(pixels + 1)
        self.table = count * np.log(np.maximum(count, 1))

    def __call__(self, counts: Ints) -> Floats:
        """Entropy of histograms (..., bins)."""
        found: Floats = np.log(self.pixels) - self.table[counts].sum(axis=-1) / self.pixels
        return found


def joint_entropy(levels: NDArray[np.uint8]) -> Floats:
    """Entropy in nats of the joint histogram of slices i < j of (n, pixels); a matrix (n, n), zero elsewhere.

    >>> joint_entropy(np.array([[0, 0, 1, 1], [0, 1, 0, 1]], np.uint8)).round(3).tolist()  # 2 bits
    [[0.0, 1.386], [0.0, 0.0]]
    """
    found, between = np.zeros((len(levels), len(levels))), joint_entropy_between(levels)
    for i, j in combinations(range(len(levels)), 2):
        found[i, j] = between(i, j)
    return found


def joint_entropy_between(levels: NDArray[np.uint8]) -> Callable[[int, int], float]:
    """Entropy in nats of the joint histogram of any two slices of (n, pixels)."""
    entropy = _HistogramEntropy(levels.shape[1])
    outside = (levels == levels[:, :1]).all(axis=0)  # like the corner in every slice: not reached by the scanner
    inside = np.compress(~outside, levels, axis=1)
    corner, pixels_outside = levels[:, 0].astype(np.int64), outside.sum()

    def between(i: int, j: int) -> float:
        counts = np.bincount(inside[i].astype(np.uint16) * LEVELS + inside[j], minlength=LEVELS * LEVELS)
        counts[corner[i] * LEVELS + corner[j]] += pixels_outside
        return float(entropy(counts))

    return between


def joint_entropy_on(device: str, levels: NDArray[np.uint8]) -> Floats:
    """As ``joint_entropy``, on a torch device: joint histograms are products of one-hot matrices, counted exactly."""
    import torch

    n, pixels = levels.shape
    placed = torch.from_numpy(levels).to(device)
    found = torch.zeros((n, n), dtype=torch.float64)
    for rows, columns in _blocks(n):
        counts = _joint_counts(placed[rows], placed[columns])
        surprise = torch.special.entr(counts.double() / pixels).sum(dim=(1, 3))
        found[rows, columns] = surprise.cpu()
    return found.numpy()


def _blocks(n: int) -> Iterator[tuple[slice, slice]]:
    """Blocks on and above the diagonal of a matrix (n, n)."""
    for row in range(0, n, SLICES_AT_ONCE):
        for column in range(row, n, SLICES_AT_ONCE):
            yield slice(row, row + SLICES_AT_ONCE), slice(column, column + SLICES_AT_ONCE)


def _joint_counts(some: Tensor, many: Tensor) -> Tensor:
    """Joint histograms (m, levels, n, levels) of slices (m, pixels) and (n, pixels)."""
    import torch

    counts = torch.zeros((len(some) * LEVELS, len(many) * LEVELS), device=some.device)
    for start in range(0, some.shape[1], PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        counts += _one_hot(some[:, part]) @ _one_hot(many[:, part]).T
    return counts.reshape(len(some), LEVELS, len(many), LEVELS)


def _one_hot(levels: Tensor) -> Tensor:
    """(n * levels, pixels) float16 of (n, pixels): 1 where the pixel has the level."""
    import torch

    every = torch.arange(LEVELS, dtype=levels.dtype, device=levels.device)
    return (levels[:, None] == every[:, None]).reshape(-1, levels.shape[1]).half()
