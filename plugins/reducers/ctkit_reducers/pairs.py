"""What the reducers that compare every two slices of a volume share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Floats, P, Slices
from ctkit_reducers.similarity import Similarity, condensed

DECIMALS = 7  #: of a distance, as many as float32 holds, so that equal slices are exactly 0 apart


class PairSimilarity(Similarity[P], ABC):
    """A similarity that is known only for two slices at a time: distance = 1 - similarity, inside a volume."""

    evidence = "pair"
    scopes = frozenset({"volume"})
    device = "accelerator"
    describes_at = True
    most_pixels: ClassVar[float] = float("inf")  #: of kept slices, above which all pairs are compared

    @abstractmethod
    def similarity(self, grey: NDArray[np.uint8], device: str) -> Floats:
        """Similarity of slices i < j of (n > 1, rows, columns), condensed (n (n - 1) / 2,); 1 for equal ones."""

    @abstractmethod
    def between(self, grey: NDArray[np.uint8]) -> Callable[[int, int], float]:
        """Similarity of two slices i < j, as ``similarity`` on the CPU gives it; an i < j - 1 is asked for again."""

    def describe(self, slices: Slices) -> NDArray[np.float32]:
        """Distances (n (n - 1) / 2,), ordered as ``scipy.spatial.distance.pdist``; on the CPU what ``at`` needs."""
        if len(slices.grey) < 2:
            return np.zeros(0, np.float32)
        if slices.at is not None and slices.device == "cpu":
            found = self._asked(slices.grey, slices.at)
            if found is not None:
                return found
        return _apart(self.similarity(slices.grey, slices.device))

    def _asked(self, grey: NDArray[np.uint8], at: float) -> NDArray[np.float32] | None:
        """Distances of neighbours and of pairs that the greedy selection asks for; None where too much is kept."""
        n, between, kept = len(grey), self.between(grey), [0]
        found = np.full(n * (n - 1) // 2, np.nan, np.float32)
        for j in range(1, n):
            neighbour = found[condensed(j - 1, j, n)] = _apart(between(j - 1, j))  # `ctkit explain` shows it
            for i in kept:
                pair = condensed(i, j, n)
                found[pair] = neighbour if i == j - 1 else _apart(between(i, j))
                if found[pair] <= at:
                    break
            else:
                kept.append(j)
                if len(kept) * grey[0].size > self.most_pixels:
                    return None
        return found


def _apart(similarity: Floats | float) -> NDArray[np.float32]:
    apart: NDArray[np.float32] = np.round(np.clip(1 - np.asarray(similarity), 0, None), DECIMALS).astype(np.float32)
    return apart


def upper(square: NDArray[Any]) -> NDArray[Any]:
    """Condensed triangle (n (n - 1) / 2,) of a matrix (n, n)."""
    return square[np.triu_indices(len(square), 1)]


def place(array: NDArray[Any], device: str) -> Any:
    """Put an array where the work is done: numpy itself on the CPU, a torch tensor elsewhere."""
    if device == "cpu":
        return array
    import torch

    return torch.from_numpy(array).to(device)


def room(rows: int, columns: int, device: str) -> Any:
    """Make a float32 array (rows, columns) of no values yet, where the work is done."""
    if device == "cpu":
        return np.empty((rows, columns), np.float32)
    import torch

    return torch.empty(rows, columns, device=device)


def fetch(array: Any) -> NDArray[Any]:
    """Bring back what ``place`` put away, or what was computed from it."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
