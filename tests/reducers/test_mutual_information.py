from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score

from ctkit.contracts import Slices
from ctkit_reducers import mutual_information
from ctkit_reducers.mutual_information import LEVELS, MutualInformation, joint_entropy, joint_entropy_on


def reference(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """1 - NMI on 64 levels by scikit-learn, for every two slices."""
    levels = [image.ravel() // 4 for image in grey]
    return 1 - np.array([normalized_mutual_info_score(one, other) for one, other in combinations(levels, 2)])


def distances(grey: NDArray[np.uint8], device: str = "cpu") -> NDArray[np.float32]:
    return MutualInformation().describe(Slices(grey, None, np.arange(len(grey)), device))


def test_distances_are_scikit_learns(drifting: NDArray[np.uint8]) -> None:
    np.testing.assert_allclose(distances(drifting), reference(drifting), rtol=0, atol=1e-6)


# scikit-learn takes labels of many classes for a regression target by mistake, which does not change its result
@pytest.mark.filterwarnings("ignore:.*number of unique classes:UserWarning")
@given(arrays(np.uint8, st.tuples(st.integers(2, 4), st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=50)
def test_distances_are_scikit_learns_on_any_slices(grey: NDArray[np.uint8]) -> None:
    np.testing.assert_allclose(distances(grey), reference(grey), rtol=0, atol=1e-6)


def test_products_of_one_hot_matrices_count_as_histograms_do(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutual_information, "SLICES_AT_ONCE", 3)
    monkeypatch.setattr(mutual_information, "PIXELS_AT_ONCE", 500)
    levels = (drifting[:7, :, :30] // 4).reshape(7, -1)
    upper = np.triu_indices(7, 1)
    found = joint_entropy_on("cpu", levels)[upper]
    np.testing.assert_allclose(found, joint_entropy(levels)[upper], rtol=0, atol=1e-12)


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives(drifting: NDArray[np.uint8], cuda: str) -> None:
    np.testing.assert_allclose(distances(drifting, cuda), distances(drifting), rtol=0, atol=1e-7)


def test_joint_entropy_is_that_of_a_plain_histogram(drifting: NDArray[np.uint8]) -> None:
    one, other = drifting[0].ravel() // 4, drifting[5].ravel() // 4
    share = np.histogram2d(one, other, bins=LEVELS, range=((0, LEVELS), (0, LEVELS)))[0] / one.size
    expected = -(share[share > 0] * np.log(share[share > 0])).sum()
    assert joint_entropy(np.stack([one, other]))[0, 1] == pytest.approx(expected, abs=1e-12)


def test_equal_slices_are_exactly_0_apart(drifting: NDArray[np.uint8]) -> None:
    assert distances(np.stack([drifting[3], drifting[3]])).tolist() == [0]


def test_slices_of_one_level_are_alike_among_themselves_only(drifting: NDArray[np.uint8]) -> None:
    black, white = np.zeros_like(drifting[0]), np.full_like(drifting[0], 255)
    assert distances(np.stack([black, drifting[0], white])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_slices_have_no_pair(n: int, drifting: NDArray[np.uint8]) -> None:
    assert distances(drifting[:n]).shape == (0,)


@pytest.mark.real
def test_pairs_of_real_slices_are_scikit_learns(published_slices: dict[str, NDArray[np.uint8]]) -> None:
    names = sorted(published_slices)[::50]
    grey = np.stack([published_slices[name] for name in names])
    np.testing.assert_allclose(distances(grey), reference(grey), rtol=0, atol=1e-6)
