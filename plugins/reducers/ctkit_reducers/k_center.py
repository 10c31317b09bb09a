"""Farthest-point coreset on embeddings: the greedy k-center of Sener and Savarese, ICLR 2018."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group, knob
from ctkit_reducers.embedding import Embedded, NetworkParams, cosine_distances
from ctkit_reducers.similarity import evidence_of


class KCenterParams(NetworkParams):
    """Which network looks at the slices, and how near to a kept one each must be."""

    radius: float | None = knob(
        None, low=0, high=2, unit="1 - cosine", description="largest distance to the nearest kept slice"
    )


class KCenter(Embedded[KCenterParams]):
    """Keep the first slice, then always the one farthest from all kept, until none is farther than ``radius``.

    The kept slices cover the rest: every dropped one lies within the radius of the kept one nearest to it, which
    stands for it. Features have unit length, where the order of cosine and of Euclidean distances is the same.
    """

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Add centres until the farthest slice is within the radius; of equally far ones take the first."""
        if not len(group):
            return Decision(np.zeros(0, bool))
        cover = _Cover(evidence_of(group))
        while cover.radius > at:
            cover.add_farthest()
        return cover.decision()

    def order(self, group: Group, rng: np.random.Generator) -> Iterator[tuple[float, Decision]]:
        """Add one centre after the other: what a smaller radius keeps begins with what a larger one keeps."""
        if not len(group):
            return
        cover, reached = _Cover(evidence_of(group)), np.inf
        while reached > 0:
            if cover.radius < reached:  # where the next centre leaves another slice as far, no radius stops at this one
                reached = cover.radius
                yield reached, cover.decision()
            cover.add_farthest()


class _Cover:
    """Centres among (n, width), the nearest (n,) to each slice, the first of equally near ones, and the distance."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.features = features
        self.nearest = np.zeros(len(features), np.int64)
        self.distance = np.full(len(features), np.inf, np.float32)
        self._add(0)

    @property
    def radius(self) -> float:
        """Distance of the farthest slice to its centre."""
        return float(self.distance.max())

    def add_farthest(self) -> None:
        """Make the farthest slice a centre."""
        self._add(int(self.distance.argmax()))

    def decision(self) -> Decision:
        """Keep the centres."""
        kept = self.nearest == np.arange(len(self.nearest))
        return Decision(kept, np.where(kept, -1, self.nearest), np.where(kept, np.float32(np.nan), self.distance))

    def _add(self, centre: int) -> None:
        apart = cosine_distances(self.features[centre : centre + 1], self.features)[0]
        apart[centre] = 0
        nearer = apart < self.distance
        self.nearest[nearer] = centre
        self.distance[nearer] = apart[nearer]
