"""SemDeDup (Abbas et al. 2023): clusters of embeddings, and duplicates looked for within a cluster only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts import Decision, Group, Ints
from ctkit_reducers.embedding import DECIMALS, Embedded, EmbeddingParams, cosine_distances
from ctkit_reducers.similarity import evidence_of

ITERATIONS = 100  #: of k-means at most
BLOCK = 1024  #: slices compared with all centres, or with their cluster, at a time


class SemDedupParams(EmbeddingParams):
    """Which network looks at the slices, and how many clusters they fall into."""

    clusters: int = Field(
        100,
        ge=1,
        description="clusters of k-means; never more than a group has slices",
        json_schema_extra={"describe": False},
    )


class SemDedup(Embedded[SemDedupParams]):
    """Drop a slice when one of its cluster that lies farther from the centre is within ``threshold`` of it.

    Of slices equally far from the centre, as two in a cluster of their own always are, the first counts as farther.
    As in the paper, a slice also goes when the one it is near to went before it; the kept slice at the end of that
    chain stands for it, at a distance that may exceed the threshold.
    """

    default_scope = "dataset"
    draws = True

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Cluster with starts drawn from ``rng``, then look for duplicates in each cluster."""
        features: NDArray[np.float32] = evidence_of(group)
        by = np.full(len(group), -1)
        centres, cluster = spherical_k_means(features, min(self.params.clusters, len(group)), rng)
        for number, centre in enumerate(centres):
            members = np.flatnonzero(cluster == number)
            to_centre = cosine_distances(centre[None], features[members])[0]
            order = members[np.argsort(-to_centre, kind="stable")]
            near = _nearest_before(features[order], at)
            by[order] = np.where(near >= 0, order[near], -1)
        by = _followed(by)
        return Decision(by < 0, by, _distances(features, by))


def spherical_k_means(
    features: NDArray[np.float32], k: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Ints]:
    """Centres (k, width) of unit length, by cosine, and the cluster (n,) of each of (n, width)."""
    centres = features[np.sort(rng.choice(len(features), k, replace=False))]
    cluster = np.full(len(features), -1)
    for _ in range(ITERATIONS):
        before, cluster = cluster, _nearest_centre(features, centres)
        if np.array_equal(before, cluster):
            break
        centres = _centres(features, cluster, centres)
    return centres, cluster


def _nearest_centre(features: NDArray[np.float32], centres: NDArray[np.float32]) -> Ints:
    found = np.empty(len(features), np.int64)
    for start in range(0, len(features), BLOCK):
        found[start : start + BLOCK] = (features[start : start + BLOCK] @ centres.T).argmax(axis=1)
    return found


def _centres(features: NDArray[np.float32], cluster: Ints, before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean directions (k, width); an empty cluster keeps its centre."""
    centres = before.copy()
    for number in np.unique(cluster):
        total = features[cluster == number].sum(axis=0)
        centres[number] = total / max(float(np.linalg.norm(total)), np.finfo(np.float32).tiny)
    return centres


def _nearest_before(features: NDArray[np.float32], at: float) -> Ints:
    """For each of (n, width) the nearest of those before it, -1 where none is within ``at``."""
    nearest = np.full(len(features), -1)
    for start in range(0, len(features), BLOCK):
        block = features[start : start + BLOCK]
        apart = cosine_distances(block, features[: start + len(block)])
        apart[~np.tri(len(block), start + len(block), start - 1, dtype=bool)] = np.inf
        first = apart.argmin(axis=1)
        near = apart[np.arange(len(block)), first] <= at
        nearest[start : start + BLOCK][near] = first[near]
    return nearest


def _followed(by: Ints) -> Ints:
    """Let each dropped slice point at a kept one: at the end of the chain that it begins."""
    while True:
        further = np.where(by >= 0, by[by], -1)
        if (further < 0).all():
            return by
        by = np.where(further >= 0, further, by)


def _distances(features: NDArray[np.float32], by: Ints) -> NDArray[np.float32]:
    """Cosine distance (n,) of each slice to the one that stands for it; NaN where it stands for itself."""
    found = np.full(len(by), np.nan, np.float32)
    dropped = np.flatnonzero(by >= 0)
    for some in np.split(dropped, range(BLOCK, len(dropped), BLOCK)):
        cosine = np.einsum("nw,nw->n", features[some], features[by[some]])
        found[some] = np.clip(np.round(1 - cosine, DECIMALS), 0, 2)
    return found
