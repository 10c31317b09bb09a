"""At a fixed threshold only the pairs that the greedy selection asks for are compared, and it selects the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ctkit.contracts import Group, Slices
from ctkit_reducers.mutual_information import MutualInformation
from ctkit_reducers.similarity import condensed
from ctkit_reducers.ssim import Ssim


def asked(distances: NDArray[np.float32], n: int, at: float) -> set[int]:
    """Places of neighbours, and of pairs that a plain greedy loop looks at: kept ones until one is alike."""
    looked, kept = {condensed(j - 1, j, n) for j in range(1, n)}, [0]
    for j in range(1, n):
        for i in kept:
            looked.add(condensed(i, j, n))
            if distances[condensed(i, j, n)] <= at:
                break
        else:
            kept.append(j)
    return looked


@pytest.mark.parametrize("reducer", [Ssim(), MutualInformation()])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_a_fixed_threshold_compares_what_it_asks_for_and_selects_the_same(
    reducer: Any, share: float, drifting: NDArray[np.uint8]
) -> None:
    grey = np.concatenate([drifting[:14], np.zeros_like(drifting[:2]), drifting[3:4]])
    n = len(grey)
    slices = Slices(grey, None, np.arange(n))
    whole = reducer.describe(slices)
    at = float(np.quantile(whole, share))
    some = reducer.describe(replace(slices, at=at))
    assert set(np.flatnonzero(~np.isnan(some)).tolist()) == asked(whole, n, at)
    assert np.isnan(some).any()
    assert np.array_equal(some[~np.isnan(some)], whole[~np.isnan(some)])
    found, expected = (
        reducer.select(Group(np.zeros(n, np.int64), np.arange(n), evidence), at, np.random.default_rng())
        for evidence in (some, whole)
    )
    assert found.by.tolist() == expected.by.tolist()
    assert np.array_equal(found.distance, expected.distance, equal_nan=True)


def test_where_too_much_is_kept_all_pairs_are_compared(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = Slices(drifting[:8], None, np.arange(8))
    monkeypatch.setattr(Ssim, "most_pixels", 3 * drifting[0].size)
    assert np.array_equal(Ssim().describe(replace(slices, at=0.0)), Ssim().describe(slices))
