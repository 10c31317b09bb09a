"""Farthest-point coreset on embeddings: the greedy k-center of Sener and Savarese, ICLR 2018."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group, Ints, knob
from ctkit_reducers.embedding import Embedded, NetworkParams, cosine_distances
from ctkit_reducers.similarity import evidence_of


class KCenterParams(NetworkParams):
    """Which network looks at the slices, and how near to a kept one each must be."""

    radius: float | None = knob(
        None, low=0, high=2, unit="1 - cosine", description="greatest distance to the nearest kept slice"
    )


class KCenter(Embedded[KCenterParams]):
    """Keep the first slice, then always the one farthest from all kept, until none is farther than ``radius``.

    The kept slices cover the rest: every dropped one lies within the radius of the kept one nearest to it, which
    stands for it. Features have unit length, where the order of cosine and of Euclidean distances is the same.
    """

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Add centres until the farthest slice is within the radius; of equally far ones take the first."""
        kept = np.zeros(len(group), bool)
        if not len(group):
            return Decision(kept)
        nearest, distance = _cover(evidence_of(group), at)
        kept[nearest] = True
        return Decision(kept, np.where(kept, -1, nearest), np.where(kept, np.nan, distance).astype(np.float32))


def _cover(features: NDArray[np.float32], radius: float) -> tuple[Ints, NDArray[np.float32]]:
    """Nearest centre (n,) of each of (n, width) and the distance to it, the first centre of equally near ones."""
    nearest = np.zeros(len(features), np.int64)
    distance = cosine_distances(features[:1], features)[0]
    distance[0] = 0
    while distance.max() > radius:
        centre = int(distance.argmax())
        apart = cosine_distances(features[centre : centre + 1], features)[0]
        apart[centre] = 0
        nearer = apart < distance
        nearest[nearer] = centre
        distance[nearer] = apart[nearer]
    return nearest, distance
