"""What the reducers that compare every two slices of a volume share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Floats, P, Slices
from ctkit_reducers.similarity import Similarity

DECIMALS = 7  #: of a distance, as many as float32 holds, so that equal slices are exactly 0 apart


class PairSimilarity(Similarity[P], ABC):
    """A similarity that is known only for two slices at a time: distance = 1 - similarity, inside a volume."""

    evidence = "pair"
    scopes = frozenset({"volume"})
    device = "accelerator"

    @abstractmethod
    def similarity(self, grey: NDArray[np.uint8], device: str) -> Floats:
        """Similarity of slices i < j of (n > 1, rows, columns), condensed (n (n - 1) / 2,); 1 for equal ones."""

    def describe(self, slices: Slices) -> NDArray[np.float32]:
        """Distances (n (n - 1) / 2,), ordered as ``scipy.spatial.distance.pdist``."""
        if len(slices.grey) < 2:
            return np.zeros(0, np.float32)
        apart = np.clip(1 - self.similarity(slices.grey, slices.device), 0, None)
        return np.round(apart, DECIMALS).astype(np.float32)


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
