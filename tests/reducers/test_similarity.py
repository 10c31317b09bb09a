"""The greedy selection, against a plain loop written from the paper's description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from ctkit.contracts import Decision, Group, NoParams
from ctkit_reducers import similarity
from ctkit_reducers.hash import Hash
from ctkit_reducers.similarity import Similarity


class Position(Similarity[NoParams]):
    """Slices that lie on a line, as far apart as their positions."""

    evidence = "slice"

    def distances(self, some: NDArray[Any], many: NDArray[Any]) -> NDArray[Any]:
        return np.abs(some[:, None] - many[None])


class Pairs(Similarity[NoParams]):
    evidence = "pair"
    scopes = frozenset({"volume"})


def group(evidence: NDArray[Any], n: int) -> Group:
    return Group(np.zeros(n, np.int64), np.arange(n), evidence)


def select(reducer: Similarity[Any], evidence: NDArray[Any], n: int, at: float) -> Decision:
    return reducer.select(group(evidence, n), at, np.random.default_rng())


def plain_loop(distance: NDArray[Any], at: float) -> list[int]:
    """For each slice -1 where it is kept, else the slice that removes it: each one left removes those after it."""
    by = [-1] * len(distance)
    left = list(range(len(distance)))
    while left:
        kept, *later = left
        left = [slice_ for slice_ in later if distance[kept, slice_] > at]
        for slice_ in set(later) - set(left):
            by[slice_] = kept
    return by


positions = arrays(np.float64, st.integers(0, 70), elements=st.integers(0, 60))


@given(positions, st.integers(0, 30))
@settings(max_examples=200)
def test_selection_equals_the_plain_loop_from_slices_and_from_pairs(position: NDArray[Any], at: int) -> None:
    distance = np.abs(position[:, None] - position[None])
    expected = plain_loop(distance, at)
    assert select(Position(), position, len(position), at).by.tolist() == expected
    triangle = squareform(distance, checks=False) if len(position) else np.empty(0)
    assert select(Pairs(), triangle, len(position), at).by.tolist() == expected


@given(positions.filter(len), st.integers(0, 30))
def test_selection_keeps_what_the_paper_promises(position: NDArray[Any], at: int) -> None:
    found = select(Position(), position, len(position), at)
    assert found.kept[0]
    kept = position[found.kept]
    assert (pdist(kept[:, None]) > at).all()
    dropped = np.flatnonzero(~found.kept)
    assert (found.by[dropped] < dropped).all()
    assert found.kept[found.by[dropped]].all()
    assert (found.distance[dropped] <= at).all()
    assert np.array_equal(found.distance[dropped], np.abs(position[dropped] - position[found.by[dropped]]))
    assert (found.by[found.kept] == -1).all()
    assert np.isnan(found.distance[found.kept]).all()


@pytest.mark.parametrize("held", [0, similarity.HELD])
@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_selection_does_not_depend_on_how_many_slices_are_decided_at_a_time_or_held(
    block: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = np.random.default_rng(3).integers(0, 1000, 300).astype(float)
    whole = select(Position(), position, 300, 4)
    monkeypatch.setattr(similarity, "BLOCK", block)
    monkeypatch.setattr(similarity, "HELD", held)
    found = select(Position(), position, 300, 4)
    assert np.array_equal(found.by, whole.by)
    assert np.array_equal(found.distance, whole.distance, equal_nan=True)


def test_a_larger_threshold_may_keep_more_slices() -> None:
    codes = np.array([[0], [0b111], [0b11111], [0b1100111]], np.uint64)
    assert select(Hash(), codes, 4, 2).kept.tolist() == [True, True, False, False]
    assert select(Hash(), codes, 4, 3).kept.tolist() == [True, False, True, True]


def test_missing_evidence_is_refused() -> None:
    with pytest.raises(TypeError, match="selects from evidence"):
        Position().select(Group(np.zeros(1, np.int64), np.zeros(1, np.int64), None), 1, np.random.default_rng())


def test_a_reducer_without_distances_says_so() -> None:
    with pytest.raises(TypeError, match="no distances"):
        Pairs().distances(np.zeros(1), np.zeros(1))
