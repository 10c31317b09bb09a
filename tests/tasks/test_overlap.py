"""Dice and HD95 against a brute-force implementation: every surface voxel with every other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctkit_tasks.overlap import agreement, measures

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)
SPACINGS = st.tuples(*[st.floats(0.3, 8)] * 3)


def surface(mask: np.ndarray) -> np.ndarray:
    """Places (n, 3) of the voxels of a mask that lack one of their six neighbours; outside of the volume is none."""
    padded = np.pad(mask, 1)
    return np.array([
        place
        for place in np.argwhere(mask)
        if not all(padded[tuple(place + 1 + step)] for axis in np.eye(3, dtype=int) for step in (axis, -axis))
    ])  # fmt: skip


def brute_force(ours: np.ndarray, theirs: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    if not ours.any() and not theirs.any():
        return 1.0, 0.0
    if not ours.any() or not theirs.any():
        return 0.0, float(np.sqrt(sum((n * step) ** 2 for n, step in zip(ours.shape, spacing, strict=True))))
    one, other = surface(ours) * np.array(spacing), surface(theirs) * np.array(spacing)
    apart = np.linalg.norm(one[:, None] - other[None], axis=2)
    hd95 = max(np.quantile(apart.min(axis=1), 0.95), np.quantile(apart.min(axis=0), 0.95))
    both = sum(a and b for a, b in zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    return 2 * both / (int(ours.sum()) + int(theirs.sum())), float(hd95)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), shape=SHAPES, spacing=SPACINGS)
def test_dice_and_hd95_are_those_of_brute_force(
    data: st.DataObject, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    ours, theirs = (data.draw(hnp.arrays(bool, shape)) for _ in range(2))
    assert agreement(ours, theirs, spacing) == pytest.approx(brute_force(ours, theirs, spacing), rel=1e-5, abs=1e-5)


def test_spheres_a_known_distance_apart() -> None:
    z, y, x = np.mgrid[:24, :24, :40]
    ball, moved = ((x - centre) ** 2 + (y - 12) ** 2 + (z - 12) ** 2 < 64 for centre in (12, 22))
    assert agreement(ball, ball, (2.0, 1.0, 0.5)) == (1.0, 0.0)
    dice, hd95 = agreement(ball, moved, (1.0, 1.0, 3.0))
    assert 0 < dice < 0.3
    assert hd95 <= 30  # ten columns of 3 mm
    assert hd95 == pytest.approx(brute_force(ball, moved, (1.0, 1.0, 3.0))[1], rel=1e-5)


def test_each_class_is_measured_and_their_means_lead() -> None:
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[:, :4], truth[0, 6, 6] = 1, 2
    found = truth.copy()
    found[truth == 2] = 0
    got = measures(found, truth, ("background", "liver", "tumour", "cyst"), (5.0, 1.0, 1.0))
    assert list(got)[:2] == ["dice", "hd95"]
    assert (got["dice_liver"], got["hd95_liver"]) == (1.0, 0.0)
    assert (got["dice_tumour"], got["hd95_tumour"]) == (0.0, pytest.approx(np.sqrt(15**2 + 8**2 + 8**2)))
    assert (got["dice_cyst"], got["hd95_cyst"]) == (1.0, 0.0)
    assert got["dice"] == pytest.approx(2 / 3)
    assert got["hd95"] == pytest.approx(got["hd95_tumour"] / 3)
    assert list(measures(found, truth, ("background", "liver"), (5.0, 1.0, 1.0))) == ["dice", "hd95"]
