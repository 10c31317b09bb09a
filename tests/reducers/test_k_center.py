from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group
from ctkit_reducers.k_center import KCenter


def directions(n: int, seed: int, width: int = 3) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def select(features: NDArray[np.float32], at: float) -> Decision:
    group = Group(np.zeros(len(features), np.int64), np.arange(len(features)), features)
    return KCenter().select(group, at, np.random.default_rng())


def farthest_points(features: NDArray[Any], radius: float) -> list[int]:
    """Brute force, with Euclidean distances as in the paper; for unit vectors they are sqrt(2 * cosine distance)."""
    limit = np.sqrt(2 * radius)
    kept = [0]
    while True:
        apart = [
            min(float(np.linalg.norm(one - features[centre])) for centre in kept) for one in features.astype(float)
        ]
        farthest = int(np.argmax(apart))
        if apart[farthest] <= limit:
            return sorted(kept)
        kept.append(farthest)


@given(st.integers(1, 25), st.integers(0, 50), st.sampled_from([0.01, 0.1, 0.35, 0.9, 2]))
@settings(max_examples=60)
def test_centres_are_those_of_a_brute_force_farthest_point_loop(n: int, seed: int, radius: float) -> None:
    features = directions(n, seed)
    assert np.flatnonzero(select(features, radius).kept).tolist() == farthest_points(features, radius)


@given(st.integers(1, 60), st.integers(0, 50), st.floats(0.001, 2))
def test_the_kept_slices_cover_the_rest_by_the_nearest_of_them(n: int, seed: int, radius: float) -> None:
    features = directions(n, seed)
    found = select(features, radius)
    assert found.by is not None
    assert found.distance is not None
    dropped = np.flatnonzero(~found.kept)
    apart = 1 - features[dropped].astype(float) @ features[found.kept].astype(float).T
    assert (found.distance[dropped] <= np.float32(radius)).all()
    np.testing.assert_allclose(found.distance[dropped], apart.min(axis=1, initial=3), rtol=0, atol=1e-5)
    assert found.kept[found.by[dropped]].all()
    assert (found.by[found.kept] == -1).all()


@given(st.integers(1, 60), st.integers(0, 50), st.floats(0.001, 2), st.floats(0.001, 2))
def test_a_smaller_radius_keeps_all_that_a_larger_one_keeps(n: int, seed: int, one: float, other: float) -> None:
    small, large = (select(directions(n, seed), radius).kept for radius in sorted((one, other)))
    assert not (large & ~small).any()


def test_equal_slices_leave_one() -> None:
    assert select(np.repeat(directions(1, 0), 4, axis=0), 0).kept.tolist() == [True, False, False, False]


def test_an_empty_group_and_a_group_without_evidence() -> None:
    assert len(select(directions(0, 0), 0.1).kept) == 0
    with pytest.raises(TypeError, match="selects from evidence"):
        KCenter().select(Group(np.zeros(1, np.int64), np.zeros(1, np.int64), None), 1, np.random.default_rng())
