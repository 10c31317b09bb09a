from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ctkit.contracts import Rows
from ctkit.errors import DataError
from ctkit_models.slices import Batches


def test_a_batch_holds_the_pixels_of_its_members(make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(10, 16)
    shards = [np.load(shard) for shard in rows.shards]
    batches = Batches(rows, seed=1, batch=4)
    for step in (0, 3, 7):
        expected = [shards[rows.shard[i]][rows.row[i]] for i in batches.members(step)]
        np.testing.assert_array_equal(batches[step].numpy(), expected)


def test_an_epoch_shows_each_slice_once_and_leaves_out_what_fills_no_batch(make_rows: Callable[..., Rows]) -> None:
    batches = Batches(make_rows(10), seed=1, batch=4)
    epochs = [np.concatenate([batches.members(2 * epoch + step) for step in (0, 1)]) for epoch in range(40)]
    assert all(len(set(epoch.tolist())) == 8 for epoch in epochs)
    assert set(np.concatenate(epochs).tolist()) == set(range(10)), "none is left out for ever"
    assert epochs[0].tolist() != epochs[1].tolist()


def test_the_order_depends_on_the_seed_alone(make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(20)
    first, again, other = (Batches(rows, seed, 8).members(3).tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("sampler", ["uniform", "one-per-volume"])
@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_a_batch_out_among_themselves(world: int, sampler: str, make_rows: Callable[..., Rows]) -> None:
    rows = replace(make_rows(20), volume=np.arange(20) % 9)
    whole = Batches(rows, 1, 8, sampler=sampler)[3].numpy()
    parts = [Batches(rows, 1, 8, rank=rank, world=world, sampler=sampler)[3].numpy() for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("sampler", ["uniform", "one-per-volume"])
def test_a_step_is_the_same_whatever_was_drawn_before(sampler: str, make_rows: Callable[..., Rows]) -> None:
    rows = replace(make_rows(20), volume=np.arange(20) % 9)
    used = Batches(rows, 1, 8, sampler=sampler)
    in_turn = [used.members(step).tolist() for step in range(8)]
    assert [Batches(rows, 1, 8, sampler=sampler).members(step).tolist() for step in range(8)] == in_turn


def test_parts_of_a_batch_follow_each_other(make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(20)
    whole = Batches(rows, 1, 8)[3].numpy()
    parts = [Batches(rows, 1, 8, rank=rank, world=2, parts=2)[2 * 3 + part].numpy() for part, rank in np.ndindex(2, 2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_shard_of_another_shape_is_an_error_that_says_so(make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(10, 16)
    for shard in rows.shards:
        np.save(shard, np.zeros((5, 16, 8), np.uint8))
    with pytest.raises(DataError, match="a shard of the slice store is damaged"):
        Batches(rows, 1, 2)[0]
