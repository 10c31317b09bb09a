"""The slice store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctkit.slices.store import Shard, SliceStore, gather
from ctkit.storage import cache
from ctkit.storage.cache import Cache

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 8, 8)).astype(np.uint8)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    return SliceStore(Cache(tmp_path), {"size": 8})


def test_a_shard_is_found_when_it_holds_all_that_is_wanted(store: SliceStore) -> None:
    store.write("ab", ints(1, 3, 4), PIXELS[:3])
    found = store.find("ab", ints(1, 4))
    assert found is not None
    np.testing.assert_array_equal(np.load(found.pixels)[found.rows_of(ints(1, 4))], PIXELS[[0, 2]])
    assert store.find("ab", ints(1, 2)) is None
    assert store.find("cd", ints(1)) is None


def test_a_wider_shard_is_written_beside_and_the_smallest_serves(store: SliceStore) -> None:
    store.write("ab", ints(0, 2), PIXELS[[0, 2]])
    store.write("ab", np.arange(5), PIXELS)
    narrow, wide = store.find("ab", ints(2)), store.find("ab", ints(1, 2))
    assert narrow is not None
    assert wide is not None
    assert (len(narrow.index), len(wide.index)) == (2, 5)


def test_another_rendering_shares_nothing(store: SliceStore, tmp_path: Path) -> None:
    store.write("ab", np.arange(5), PIXELS)
    assert SliceStore(Cache(tmp_path), {"size": 16}).find("ab", ints(1)) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "facts", "no facts"])
def test_a_damaged_shard_is_removed_and_can_be_written_anew(
    store: SliceStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    shard = store.write("ab", np.arange(5), PIXELS)
    data = bytearray(shard.pixels.read_bytes())
    if damage == "delete":
        shard.pixels.unlink()
    elif damage == "no facts":
        shard.pixels.with_name("shard.json").unlink()
    elif damage == "facts":
        shard.pixels.with_name("shard.json").write_text('{"index": [')
    else:
        data[-1] ^= 1
        shard.pixels.write_bytes(data if damage == "flip" else data[:-9])
    assert store.find("ab", ints(1)) is None
    assert "damaged" in caplog.text
    store.write("ab", np.arange(5), PIXELS)
    assert store.find("ab", ints(1)) is not None


def test_a_shard_that_many_arms_share_is_checked_once(store: SliceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("ab", np.arange(5), PIXELS)
    checked = []
    real = cache._matches_sums
    monkeypatch.setattr(cache, "_matches_sums", lambda entry: (checked.append(entry), real(entry))[1])
    found = [store.find("ab", ints(*wanted)) for wanted in ((0, 1), (2,), (1, 4))]
    assert None not in found
    assert len(checked) == 1


def test_an_arm_is_a_list_of_rows_with_its_own_mean_and_deviation(store: SliceStore) -> None:
    one = store.write("ab", ints(0, 2, 3), PIXELS[:3])
    two = store.write("cd", ints(5, 6), PIXELS[3:])
    rows = gather([(0, one, ints(0, 3)), (4, two, ints(6))], 8)
    kept = np.stack([np.load(rows.shards[s])[r] for s, r in zip(rows.shard, rows.row, strict=True)])
    np.testing.assert_array_equal(kept, PIXELS[[0, 2, 4]])
    assert rows.volume.tolist() == [0, 0, 4]
    assert rows.mean == pytest.approx(kept.mean() / 255, abs=1e-12)
    assert rows.std == pytest.approx(kept.std() / 255, abs=1e-12)


def test_an_arm_of_nothing_has_no_rows() -> None:
    rows = gather([], 8)
    assert (len(rows), rows.mean, rows.std) == (0, 0, 0)


def test_shards_know_what_they_hold() -> None:
    shard = Shard(Path("x"), ints(1, 3), np.zeros((2, 2), np.int64))
    assert shard.holds(ints(3))
    assert not shard.holds(ints(2, 3))
