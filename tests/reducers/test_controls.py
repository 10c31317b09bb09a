from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctkit.contracts import Group
from ctkit_reducers.controls import All, EveryN, Random


def volumes(*sizes: int) -> Group:
    """A group of whole volumes."""
    number = np.repeat(np.arange(len(sizes)), sizes)
    return Group(number, np.concatenate([np.arange(0), *(np.arange(size) for size in sizes)]), None)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_all_keeps_every_slice() -> None:
    assert All().select(volumes(3, 2), float("nan"), rng()).kept.tolist() == [True] * 5


@given(st.integers(0, 60), st.integers(1, 20))
def test_every_n_keeps_what_a_step_of_n_keeps(slices: int, n: int) -> None:
    kept = EveryN().select(volumes(slices), n, rng()).kept
    assert np.flatnonzero(kept).tolist() == list(range(0, slices, n))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.floats(1, 40))
def test_every_n_keeps_each_volume_from_its_first_slice_at_even_distances(sizes: list[int], n: float) -> None:
    group = volumes(*sizes)
    kept = EveryN().select(group, n, rng()).kept
    for volume, size in enumerate(sizes):
        index = group.index[kept & (group.volume == volume)]
        assert index[0] == 0
        assert len(index) == 1 + int((size - 1) // n)
        assert set(np.diff(index)) <= {int(n), int(np.ceil(n))}


def test_every_n_counts_slices_by_their_number_from_the_first_one_left() -> None:
    left = np.array([3, 4, 6, 7, 8, 13])
    kept = EveryN().select(Group(np.zeros(6, np.int64), left, None), 5, rng()).kept
    assert left[kept].tolist() == [3, 8, 13]


@given(st.integers(0, 200), st.floats(1e-6, 1), st.integers(0, 9))
def test_random_keeps_the_share_rounded_and_never_nothing(n: int, share: float, seed: int) -> None:
    kept = Random().select(volumes(n), share, rng(seed)).kept
    assert kept.sum() == (max(1, round(share * n)) if n else 0)


@given(st.integers(1, 200), st.floats(1e-6, 1), st.floats(1e-6, 1), st.integers(0, 9))
def test_random_keeps_less_from_within_what_it_keeps_at_a_larger_share(
    n: int, one: float, other: float, seed: int
) -> None:
    less, more = (Random().select(volumes(n), share, rng(seed)).kept for share in sorted((one, other)))
    assert not (less & ~more).any()


def test_random_keeps_every_slice_equally_often_over_seeds() -> None:
    times = sum(Random().select(volumes(50), 0.2, rng(seed)).kept.astype(int) for seed in range(2000))
    # 49 degrees of freedom, correlated as draws without replacement are: chi-square has mean 49 and deviation 9.9
    assert ((times - 400) ** 2 / (400 * 0.8)).sum() * 49 / 50 < 49 + 4 * 9.9


@pytest.mark.parametrize("reducer", [All, EveryN, Random])
def test_an_empty_group_gives_an_empty_decision(reducer: type[All] | type[EveryN] | type[Random]) -> None:
    assert len(reducer().select(volumes(), 1, rng()).kept) == 0
