from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group
from ctkit.slices.selection import Choice, Table, curve
from ctkit.slices.selection import select as select_slices
from ctkit_reducers import k_center
from ctkit_reducers.embedding import cosine_distances
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


class Searched(KCenter):
    """Gives no order, so that the core tries radii, each from the first centre on."""

    def order(self, group: Group, rng: np.random.Generator) -> None:
        return None


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(1, 50),
    st.integers(0, 50),
    st.sampled_from(["volume", "dataset"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_budget_in_one_pass_keeps_what_a_search_over_radii_keeps(
    counts: list[int], target: int, seed: int, scope: Any, coarse: bool
) -> None:
    features = directions(sum(counts), seed)
    if coarse:  # many slices that are equally far
        features = np.sign(features) / np.float32(np.sqrt(3))
    volume = np.repeat(np.arange(len(counts)), counts)
    table = Table(volume, np.concatenate([np.arange(count) for count in counts]), volume)
    ordered, searched = (
        [Choice(reducer, scope, np.nan, features.__getitem__, "it")] for reducer in (KCenter(), Searched())
    )
    found, expected = (select_slices(table, choices, 0, target) for choices in (ordered, searched))
    assert found.kept.tolist() == expected.kept.tolist()
    assert found.by.tolist() == expected.by.tolist()
    assert np.array_equal(found.distance, expected.distance, equal_nan=True)
    again = select_slices(table, [Choice(KCenter(), scope, found.at[0], features.__getitem__, "it")], 0)
    assert again.kept.tolist() == found.kept.tolist(), "the radius that it says gives this selection"
    assert curve(table, ordered, 0) == curve(table, searched, 0)


def test_a_budget_ends_at_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    features, compared = directions(300, 0, width=8), []

    def counted(some: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
        compared.append(len(many))
        return cosine_distances(some, many)

    monkeypatch.setattr(k_center, "cosine_distances", counted)
    table = Table(np.zeros(300, np.int64), np.arange(300), np.zeros(300, np.int64))
    found = select_slices(table, [Choice(KCenter(), "dataset", np.nan, features.__getitem__, "it")], 0, 40)
    assert found.kept.sum() == 40
    assert len(compared) == 40


def test_equal_slices_leave_one() -> None:
    assert select(np.repeat(directions(1, 0), 4, axis=0), 0).kept.tolist() == [True, False, False, False]


def test_an_empty_group_and_a_group_without_evidence() -> None:
    assert len(select(directions(0, 0), 0.1).kept) == 0
    with pytest.raises(TypeError, match="selects from evidence"):
        KCenter().select(Group(np.zeros(1, np.int64), np.zeros(1, np.int64), None), 1, np.random.default_rng())
