"""Grey-level entropy: drops what holds little information, such as empty slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Decision, Floats, Group, Params, Reducer, Slices, knob
from ctkit_reducers.similarity import evidence_of


class EntropyParams(Params):
    """What counts as information enough."""

    threshold: float | None = knob(None, low=0, high=8, unit="bits", description="smallest entropy of a kept slice")


class Entropy(Reducer[EntropyParams]):
    """Keep a slice when the Shannon entropy of its 256 grey levels is at least ``threshold`` bits.

    The levels are those of the evidence rendering, which stretches each slice to its own minimum and maximum: a slice
    of air has few levels where a bright speck is in it, and the noise of the scanner where there is none.
    """

    evidence = "slice"
    by_slice = True

    def describe(self, slices: Slices) -> Floats:
        """Entropy (n,) in bits."""
        return np.array([entropy(image) for image in slices.grey], np.float64)

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Keep what is at or above the threshold."""
        return Decision(evidence_of(group) >= at)


def entropy(image: NDArray[np.uint8]) -> float:
    """Shannon entropy in bits of an image's grey levels.

    >>> entropy(np.array([[0, 0], [80, 255]], np.uint8))
    1.5
    """
    count = np.bincount(image.ravel())
    share = count[count > 0] / image.size
    return float(abs((share * np.log2(share)).sum()))  # a sum of nothing but zeros is -0.0
