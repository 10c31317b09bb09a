from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctkit.contracts import Group
from ctkit_hashing.codes import packed
from ctkit_reducers import code_index, similarity
from ctkit_reducers.code_index import KeptCodes, worth_indexing
from ctkit_reducers.hash import Hash, HashParams
from ctkit_reducers.similarity import Kept


def walk(n: int, bits: int, flips: float, seed: int) -> NDArray[np.uint64]:
    """Codes (n, bits / 64) of a random walk that flips so many bits a step on average."""
    flipped = np.random.default_rng(seed).random((n, bits)) < flips / bits
    return packed(flipped.cumsum(axis=0) % 2 == 1)


@settings(max_examples=40)
@given(
    st.sampled_from([64, 256]),
    st.integers(0, 30),
    st.floats(0, 20),
    st.integers(0, 99),
    st.sampled_from([200, 1 << 21]),
)
def test_the_index_finds_what_a_search_one_by_one_finds(
    bits: int, at: int, flips: float, seed: int, at_once: int
) -> None:
    codes = walk(120, bits, flips, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_index, "AT_ONCE", at_once)
        patch.setattr(code_index, "PROBE_COST", 0)  # never search one by one
        indexed, plain = KeptCodes(Hash().distances, at, bits), Kept(Hash().distances, at)
        for start, stop in ((0, 30), (30, 31), (31, 90)):
            indexed.add(codes[start:stop], np.arange(start, stop))
            plain.add(codes[start:stop], np.arange(start, stop))
        for found, expected in zip(indexed.first_alike(codes), plain.first_alike(codes), strict=True):
            assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("bits", [64, 256])
@pytest.mark.parametrize("at", [0, 3, 6, 24])
def test_a_selection_with_the_index_equals_one_without(bits: int, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = walk(3000, bits, 2, seed=at)
    group = Group(np.zeros(3000, np.int64), np.arange(3000), codes)
    reducer = Hash(HashParams.model_validate({"bits": bits}))
    monkeypatch.setattr(similarity, "BLOCK", 100)
    fast = reducer.select(group, at, np.random.default_rng())
    monkeypatch.setattr(Hash, "kept", lambda self, at: Kept(self.distances, at))
    plain = reducer.select(group, at, np.random.default_rng())
    assert np.array_equal(fast.by, plain.by)
    assert np.array_equal(fast.distance, plain.distance, equal_nan=True)


def test_equal_codes_fall_back_to_a_search_one_by_one_and_are_found() -> None:
    kept = KeptCodes(Hash().distances, 6, 64)
    kept.add(np.zeros((500, 1), np.uint64), np.arange(500))
    number, distance = kept.first_alike(np.zeros((5, 1), np.uint64))
    assert number.tolist() == [0] * 5
    assert distance.tolist() == [0] * 5


def test_an_index_is_worth_its_while_for_narrow_thresholds_only() -> None:
    assert worth_indexing(64, 6)
    assert not worth_indexing(64, 12)
    assert worth_indexing(256, 24)
    assert not worth_indexing(256, 64)
