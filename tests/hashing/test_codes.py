from __future__ import annotations

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from ctkit_hashing.codes import dhash, hamming, packed

slices = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 33), st.integers(1, 33)))


@given(slices, st.sampled_from([8, 16]))
@settings(max_examples=200)
def test_dhash_is_imagehash_bit_for_bit(grey: NDArray[np.uint8], side: int) -> None:
    expected = [imagehash.dhash(Image.fromarray(image), side).hash.ravel() for image in grey]
    assert np.array_equal(dhash(grey, side), expected)


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.sampled_from([64, 256]))))
def test_the_hamming_distance_counts_differing_bits_in_the_smallest_type(bits: NDArray[np.bool_]) -> None:
    distances = hamming(packed(bits)[:, None], packed(bits)[None])
    assert np.array_equal(distances, (bits[:, None] != bits[None]).sum(axis=2))
    assert distances.dtype == (np.uint8 if bits.shape[1] == 64 else np.uint16)


@pytest.mark.parametrize("bits", [64, 256])
def test_the_first_bit_of_a_code_is_its_highest(bits: int) -> None:
    first = np.zeros((1, bits), bool)
    first[0, 0] = True
    assert packed(first).tolist() == [[1 << 63, *[0] * (bits // 64 - 1)]]
