from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group
from ctkit_reducers import semdedup
from ctkit_reducers.embedding import cosine_distances
from ctkit_reducers.semdedup import SemDedup, SemDedupParams, spherical_k_means


def directions(n: int, seed: int, width: int = 3) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def select(features: NDArray[np.float32], at: float, clusters: int = 4, seed: int = 0) -> Decision:
    group = Group(np.zeros(len(features), np.int64), np.arange(len(features)), features)
    return SemDedup(SemDedupParams(clusters=clusters)).select(group, at, np.random.default_rng(seed))


def as_the_paper_reads(
    features: NDArray[np.float32], centres: NDArray[np.float32], cluster: NDArray[np.int64], epsilon: float
) -> NDArray[np.bool_]:
    """Appendix of Abbas et al. 2023, on given clusters: keep where the upper triangle's maximum is <= 1 - epsilon."""
    kept = torch.zeros(len(features), dtype=torch.bool)
    for number, centre in enumerate(centres):
        members = torch.from_numpy(np.flatnonzero(cluster == number))
        if len(members) == 0:
            continue
        embeddings = torch.from_numpy(features).double()[members]
        to_centre = torch.from_numpy(
            cosine_distances(centre[None], features[members.numpy()])[0]
        )  # ties as ctkit sees them
        farthest_first = torch.argsort(to_centre, descending=True, stable=True)
        members, embeddings = members[farthest_first], embeddings[farthest_first]
        similarity = torch.triu(embeddings @ embeddings.T, diagonal=1)
        kept[members[similarity.max(dim=0)[0] <= 1 - epsilon]] = True
    return kept.numpy()


@given(st.integers(1, 60), st.integers(0, 50), st.sampled_from([0.013, 0.077, 0.31]), st.integers(1, 6))
@settings(max_examples=60)
def test_selection_is_a_direct_reading_of_the_paper(n: int, seed: int, epsilon: float, clusters: int) -> None:
    features = directions(n, seed)
    centres, cluster = spherical_k_means(features, min(clusters, n), np.random.default_rng(seed))
    expected = as_the_paper_reads(features, centres, cluster, epsilon)
    assert np.array_equal(select(features, epsilon, clusters, seed).kept, expected)


@given(st.integers(1, 60), st.integers(0, 50), st.floats(0.001, 0.5))
def test_a_kept_slice_of_the_same_cluster_stands_for_each_dropped_one(n: int, seed: int, at: float) -> None:
    features = directions(n, seed)
    _, cluster = spherical_k_means(features, min(4, n), np.random.default_rng(0))
    found = select(features, at)
    assert found.by is not None
    assert found.distance is not None
    dropped = np.flatnonzero(~found.kept)
    assert found.kept[found.by[dropped]].all()
    assert np.array_equal(cluster[found.by[dropped]], cluster[dropped])
    cosine = (features[dropped].astype(float) * features[found.by[dropped]].astype(float)).sum(axis=1)
    np.testing.assert_allclose(found.distance[dropped], 1 - cosine, rtol=0, atol=2e-6)
    assert np.isnan(found.distance[found.kept]).all()


def test_well_parted_directions_are_found_as_clusters() -> None:
    rng = np.random.default_rng(5)
    truth = np.repeat(np.arange(4), 50)
    vectors = np.eye(4)[truth] * 5 + rng.normal(size=(200, 4), scale=0.3)
    features = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    for seed in range(20):  # as any k-means it may start badly; then two centres share a direction
        centres, cluster = spherical_k_means(features, 4, np.random.default_rng(seed))
        np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, rtol=0, atol=1e-6)
        assert np.array_equal(cluster, (features @ centres.T).argmax(axis=1))
        if len({tuple(np.unique(truth[cluster == number])) for number in range(4)}) == 4:
            break
    else:
        pytest.fail("no start of 20 found the four directions")


@pytest.mark.parametrize(("slices", "clusters"), [(7, 7), (150, 100), (10_000, 100), (10_001, 101)])
def test_clusters_grow_with_the_square_root_of_the_slices(
    slices: int, clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def clustered(features: NDArray[np.float32], k: int, rng: np.random.Generator) -> Any:
        asked.append(k)
        return features[:k], np.arange(len(features)) % k

    monkeypatch.setattr(semdedup, "spherical_k_means", clustered)
    group = Group(np.zeros(slices, np.int64), np.arange(slices), directions(slices, 0))
    SemDedup().select(group, 0, np.random.default_rng(0))
    SemDedup(SemDedupParams(clusters=5)).select(group, 0, np.random.default_rng(0))
    assert asked == [clusters, 5]


def test_clusters_by_batches_are_about_as_tight_as_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semdedup, "STEPS", 8)

    rng = np.random.default_rng(2)
    vectors = np.repeat(rng.normal(size=(60, 16)), 50, axis=0) + rng.normal(size=(3000, 16), scale=0.4)
    features = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    whole = spherical_k_means(features, 40, np.random.default_rng(0))
    monkeypatch.setattr(semdedup, "AT_ONCE", 0)
    batches = spherical_k_means(features, 40, np.random.default_rng(0))
    again = spherical_k_means(features, 40, np.random.default_rng(0))
    assert all(np.array_equal(*pair) for pair in zip(batches, again, strict=True))
    assert np.array_equal(batches[1], (features @ batches[0].T).argmax(axis=1))
    assert not np.array_equal(batches[0], whole[0])
    spread, tightest = (((features - centres[cluster]) ** 2).sum() for centres, cluster in (batches, whole))
    assert spread < 1.25 * tightest


def test_one_seed_gives_one_selection_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = directions(200, 1, width=8)
    whole = select(features, 0.2)
    assert np.array_equal(select(features, 0.2).kept, whole.kept)
    assert whole.kept.sum() < 190
    monkeypatch.setattr(semdedup, "BLOCK", 7)
    assert np.array_equal(select(features, 0.2).kept, whole.kept)


def test_a_group_may_be_empty_and_must_have_evidence() -> None:
    assert len(select(directions(0, 0), 0.1).kept) == 0
    with pytest.raises(TypeError, match="selects from evidence"):
        SemDedup().select(Group(np.zeros(1, np.int64), np.zeros(1, np.int64), None), 1, np.random.default_rng())
