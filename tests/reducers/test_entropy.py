from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.measure import shannon_entropy

from ctkit.contracts import Group, Slices
from ctkit_reducers.entropy import Entropy, entropy


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_entropy_is_scikit_images(image: NDArray[np.uint8]) -> None:
    assert entropy(image) == pytest.approx(shannon_entropy(image), abs=1e-9)


def test_entropy_ranges_from_one_level_to_all_levels() -> None:
    assert entropy(np.full((4, 4), 7, np.uint8)) == 0
    assert entropy(np.arange(256, dtype=np.uint8).reshape(16, 16)) == 8


def test_slices_at_or_above_the_threshold_are_kept() -> None:
    flat, two_levels, four_levels = np.zeros((3, 2, 2), np.uint8)
    two_levels[0] = 255
    four_levels.flat = range(4)
    evidence = Entropy().describe(Slices(np.stack([flat, two_levels, four_levels]), None, np.arange(3)))
    group = Group(np.zeros(3, np.int64), np.arange(3), evidence)
    assert Entropy().select(group, 1, np.random.default_rng()).kept.tolist() == [False, True, True]
