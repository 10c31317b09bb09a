"""The matrix form of Pillow's LANCZOS against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ctkit_hashing import lanczos
from ctkit_hashing.lanczos import reduced

SIDES = [(8, 9), (16, 17)]


def by_pillow(grey: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    images = [Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS) for image in grey]
    return np.stack([np.asarray(image) for image in images])


@given(st.integers(1, 600), st.integers(1, 600), st.sampled_from(SIDES), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_every_pixel_is_pillows(height: int, width: int, side: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.integers(-3, 4, (1, height, width)).cumsum(axis=2)
    for grey in (rng.integers(0, 256, steps.shape, np.uint8), steps.astype(np.uint8), (steps > 0) * np.uint8(255)):
        assert np.array_equal(reduced(grey, *side), by_pillow(grey, *side))


@pytest.mark.parametrize("side", SIDES)
def test_ct_slices_take_the_fast_way(side: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3, 512, 512), np.uint8)
    expected = by_pillow(grey, *side)
    reduced(grey, *side)  # the comparison with Pillow is made once for each shape
    monkeypatch.setattr(lanczos, "_by_pillow", lambda *_: pytest.fail("Pillow was asked"))
    assert np.array_equal(reduced(grey, *side), expected)


def test_where_this_pillow_does_otherwise_pillow_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanczos, "_by_pillow", lambda image, rows, columns: np.full((rows, columns), 7, np.uint8))
    assert (reduced(np.zeros((2, 31, 41), np.uint8), 8, 9) == 7).all()
