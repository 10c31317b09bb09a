from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctkit.contracts import Ints
from ctkit_models.sampling import SAMPLERS, one_per_volume, uniform

Arm = tuple[Ints, int]


@st.composite
def arms(draw: st.DrawFn) -> Arm:
    """The volume of each slice, in a mixed order and with numbers left out, and a batch that the volumes allow."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=9))
    volume = np.repeat(3 * np.arange(len(sizes)), sizes)
    np.random.default_rng(len(volume)).shuffle(volume)
    return volume, draw(st.integers(2, len(sizes)))


def epoch(name: str, arm: Arm, seed: int = 0) -> Ints:
    volume, batch = arm
    return SAMPLERS[name](volume, batch, np.random.default_rng(seed)).reshape(-1, batch)


@given(arms(), st.integers(0, 99))
def test_no_batch_holds_two_slices_of_a_volume(arm: Arm, seed: int) -> None:
    batches = epoch("one-per-volume", arm, seed)
    assert len(batches) == len(arm[0]) // arm[1]
    assert all(len(set(arm[0][batch])) == arm[1] for batch in batches)


@settings(max_examples=20, deadline=None)
@given(arms(), st.sampled_from(sorted(SAMPLERS)))
def test_every_slice_is_drawn_in_the_long_run(arm: Arm, name: str) -> None:
    drawn = np.concatenate([epoch(name, arm, seed).ravel() for seed in range(150)])
    assert set(drawn) == set(range(len(arm[0])))


@settings(max_examples=30, deadline=None)
@given(arms(), st.sampled_from(sorted(SAMPLERS)), st.integers(0, 99))
def test_the_same_seed_draws_the_same_and_another_something_else(arm: Arm, name: str, seed: int) -> None:
    np.testing.assert_array_equal(epoch(name, arm, seed), epoch(name, arm, seed))
    others = {epoch(name, arm, other).tobytes() for other in range(seed, seed + 20)}
    assert len(others) > 1


@given(arms())
def test_a_slice_is_drawn_again_only_when_all_slices_that_may_be_are(arm: Arm) -> None:
    volume, _ = arm
    batches = epoch("one-per-volume", arm)
    times = np.bincount(batches.ravel(), minlength=len(volume))
    full = np.bincount(volume[batches.ravel()], minlength=volume.max() + 1) == len(batches)
    free = times[~full[volume]]  # slices of volumes that had a place left in some batch
    assert len(free) == 0 or times.max() <= free.min() + 1


@given(st.integers(2, 9), st.integers(1, 20), st.integers(2, 9))
def test_volumes_of_equal_size_show_each_slice_once_an_epoch(volumes: int, slices: int, batch: int) -> None:
    volume = np.repeat(np.arange(volumes), slices)
    batches = epoch("one-per-volume", (volume, min(batch, volumes)))
    assert max(Counter(batches.ravel().tolist()).values()) == 1


def test_a_volume_larger_than_the_epoch_is_in_every_batch_and_takes_turns() -> None:
    volume = np.repeat(np.arange(4), [97, 1, 1, 1])
    batches = epoch("one-per-volume", (volume, 4))
    assert batches.shape == (25, 4)
    times = np.bincount(batches.ravel(), minlength=100)
    assert times[:97].max() == 1
    assert times[97:].tolist() == [25, 25, 25]


def test_volumes_meet_all_others_over_the_epochs() -> None:
    volume = np.repeat(np.arange(12), 5)
    met = np.zeros((12, 12), int)
    for seed in range(200):
        for batch in volume[epoch("one-per-volume", (volume, 4), seed)]:
            met[np.ix_(batch, batch)] += 1
    apart = met[~np.eye(12, dtype=bool)]
    expected = 200 * 15 * 4 * 3 / (12 * 11)
    assert np.abs(apart / expected - 1).max() < 0.2


@pytest.mark.parametrize("sampler", [uniform, one_per_volume], ids=["uniform", "one-per-volume"])
def test_sampling_leaves_global_numbers_alone(sampler: object) -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002  # it is the legacy state that must not move
    sampler(np.arange(9) // 2, 3, np.random.default_rng(1))  # type: ignore[operator]
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
