from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ctkit.contracts import Rows
from ctkit_models.monitors import AlikePairs, alike_share
from ctkit_models.slices import Batches


def test_the_share_is_that_of_pairs_by_imagehash(make_rows: Callable[..., Rows]) -> None:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    noise = rng.integers(0, 24, (4, 6, 32, 32), dtype=np.uint8)
    rows = make_rows(pixels=np.concatenate([coarse // 2 + one for one in noise]))  # 6 families of 4 near-copies
    batches = Batches(rows, seed=1, batch=12)
    alike = AlikePairs(batches)
    for step in (0, 1, 5):
        hashes = [imagehash.dhash(Image.fromarray(image)) for image in batches[step].numpy()]
        expected = np.mean([one - other <= 6 for one, other in combinations(hashes, 2)])
        assert 0.02 < expected < 0.9
        assert alike.share(step) == pytest.approx(expected)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=12))
def test_pairs_are_counted_once_and_no_code_with_itself(codes: list[int]) -> None:
    pairs = list(combinations(codes, 2))
    expected = sum((one ^ other).bit_count() <= 6 for one, other in pairs) / len(pairs)
    assert alike_share(np.array(codes, np.uint64)[:, None]) == pytest.approx(expected)


def test_pairs_of_parts_that_know_nothing_of_each_other_do_not_count(make_rows: Callable[..., Rows]) -> None:
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (6, 8, 8), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    rows = make_rows(pixels=coarse.repeat(2, axis=0))
    whole, cut = (Batches(rows, seed=1, batch=12, parts=parts) for parts in (1, 3))
    hashes = [imagehash.dhash(Image.fromarray(image)) for image in whole[0].numpy()]
    pairs = [pair for part in range(3) for pair in combinations(hashes[4 * part : 4 * part + 4], 2)]
    expected = np.mean([one - other <= 6 for one, other in pairs])
    assert AlikePairs(cut).share(0) == pytest.approx(expected) != AlikePairs(whole).share(0)


def test_each_slice_is_hashed_once(make_rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    batches, read = Batches(make_rows(12), seed=1, batch=4), []
    pixels = batches.pixels

    def reading(positions: Any) -> Any:
        read.extend(positions.tolist())
        return pixels(positions)

    monkeypatch.setattr(batches, "pixels", reading)
    alike = AlikePairs(batches)
    for step in range(9):
        alike.share(step)
    assert sorted(read) == list(range(12))
