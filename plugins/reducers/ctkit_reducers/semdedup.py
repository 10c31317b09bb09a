"""SemDeDup (Abbas et al. 2023): clusters of embeddings, and duplicates looked for within a cluster only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts import Decision, Group, Ints
from ctkit_reducers.embedding import DECIMALS, Embedded, EmbeddingParams, cosine_distances
from ctkit_reducers.similarity import evidence_of

FEWEST = 100  #: clusters of a group that has as many slices, where the pipeline gives no number
ITERATIONS = 100  #: of k-means at most
AT_ONCE = 10_000  #: slices; k-means goes through larger groups in batches
STEPS, BATCH = 100, 1024  #: so many batches at least, more where every slice is to be seen once
BLOCK = 1024  #: slices compared with all centres, or with their cluster, at a time


class SemDedupParams(EmbeddingParams):
    """Which network looks at the slices, and how many clusters they fall into."""

    clusters: int | None = Field(
        None,
        ge=1,
        description="clusters of k-means; if left out the square root of a group's slices, but at least 100; never more"
        " than a group has slices",
        json_schema_extra={"describe": False},
    )


class SemDedup(Embedded[SemDedupParams]):
    """Drop a slice when one of its cluster that lies farther from the centre is within ``threshold`` of it.

    Of slices equally far from the centre, as two in a cluster of their own always are, the first counts as farther.
    As in the paper, a slice also goes when the one it is near to went before it; the kept slice at the end of that
    chain stands for it, at a distance that may exceed the threshold.

    With as many clusters as the square root of the slices, it takes as long to find the cluster of each slice as to
    compare it with the rest of that cluster, and the sum is smallest.
    """

    version = 2
    default_scope = "dataset"
    draws = True

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Cluster with starts drawn from ``rng``, then look for duplicates in each cluster."""
        features: NDArray[np.float32] = evidence_of(group)
        by = np.full(len(group), -1)
        if not len(group):
            return Decision(by < 0, by, np.zeros(0, np.float32))
        wanted = self.params.clusters or max(FEWEST, math.isqrt(len(group) - 1) + 1)
        centres, cluster = spherical_k_means(features, min(wanted, len(group)), rng)
        by_cluster = np.argsort(cluster, kind="stable")
        ends = np.searchsorted(cluster[by_cluster], np.arange(1, len(centres)))
        for centre, members in zip(centres, np.split(by_cluster, ends), strict=True):
            to_centre = cosine_distances(centre[None], features[members])[0]
            order = members[np.argsort(-to_centre, kind="stable")]
            near = _nearest_before(features[order], at)
            by[order] = np.where(near >= 0, order[near], -1)
        by = _followed(by)
        return Decision(by < 0, by, _distances(features, by))


def spherical_k_means(
    features: NDArray[np.float32], k: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Ints]:
    """Centres (k, width) of unit length, by cosine, and the cluster (n,) of each of (n, width) unit vectors."""
    centres = features[np.sort(rng.choice(len(features), k, replace=False))]
    if len(features) > AT_ONCE:
        centres = _in_batches(features, centres, rng)
        return centres, _nearest_centre(features, centres)
    cluster = np.full(len(features), -1)
    for _ in range(ITERATIONS):
        before, cluster = cluster, _nearest_centre(features, centres)
        if np.array_equal(before, cluster):
            break
        centres = _centres(features, cluster, centres)
    return centres, cluster


def _in_batches(
    features: NDArray[np.float32], start: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Mini-batch k-means (Sculley 2010); a fixed number of steps, so that no sum over threads decides when it ends."""
    from sklearn.cluster import MiniBatchKMeans  # comes with the extra that brings the network

    found = MiniBatchKMeans(
        len(start),
        init=start,
        n_init=1,
        batch_size=BATCH,
        max_iter=max(1, math.ceil(STEPS * BATCH / len(features))),
        max_no_improvement=None,
        random_state=int(rng.integers(1 << 31)),
    ).fit(features)
    centres: NDArray[np.float32] = found.cluster_centers_.astype(np.float32)
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return centres


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
