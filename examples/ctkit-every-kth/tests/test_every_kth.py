"""The conformance checks of ctkit, and what this reducer promises beyond them."""

from __future__ import annotations

import numpy as np
import pytest

from ctkit.contracts import Group
from ctkit.testing import check_distribution, check_reducer
from ctkit_every_kth import EveryKth, EveryKthParams


@pytest.mark.parametrize("offset", [0, 3])
def test_it_keeps_the_contract_of_a_reducer(offset: int) -> None:
    check_reducer(EveryKth, EveryKthParams(offset=offset))


def test_its_distribution_announces_what_can_be_used() -> None:
    check_distribution("ctkit-every-kth")


def test_it_keeps_every_kth_slice_from_the_offset_on() -> None:
    group = Group(volume=np.zeros(8, dtype=np.int64), index=np.arange(8), evidence=None)
    kept = EveryKth(EveryKthParams(offset=1)).select(group, at=3, rng=np.random.default_rng(0)).kept
    assert np.flatnonzero(kept).tolist() == [1, 4, 7]
