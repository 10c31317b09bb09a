"""The two renderings of a slice."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctkit.pipeline_file.sections import Intensity
from ctkit.slices import rendering

VOLUMES = hnp.arrays(
    st.sampled_from([np.int16, np.uint16, np.int32, np.float32]),
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.integers(-1000, 1000).map(abs),
)


def plain_min_max(slice_: np.ndarray) -> np.ndarray:
    values = slice_.astype(np.float64)
    span = values.max() - values.min()
    return np.rint((values - values.min()) * 255 / span) if span else np.zeros_like(values)


@given(VOLUMES)
def test_evidence_is_each_slices_minimum_to_maximum_rounded_to_nearest_even(values: np.ndarray) -> None:
    expected = np.stack([plain_min_max(slice_) for slice_ in values])
    np.testing.assert_array_equal(rendering.evidence(values), expected)


def test_evidence_covers_the_whole_range_of_16_bits() -> None:
    values = np.array([[[-32768, 0, 32767]]], np.int16)
    assert rendering.evidence(values).tolist() == [[[0, 128, 255]]]


def test_a_window_clips_and_rounds() -> None:
    values = np.array([[[-2000, -1000], [-300, 400]]], np.int16)
    assert rendering.training(values, "HU", (-300, 1400), 2).tolist() == [[[0, 0], [128, 255]]]


def test_a_named_window_is_its_centre_and_width() -> None:
    values = np.random.default_rng(0).integers(-1024, 2000, (2, 16, 16)).astype(np.int16)
    by_name = rendering.training(values, "HU", "brain", 16)
    np.testing.assert_array_equal(by_name, rendering.training(values, "HU", (40, 80), 16))


def test_values_without_hounsfield_units_fill_the_scale_over_the_volume() -> None:
    values = np.array([[[0, 100]], [[50, 200]]], np.int32)
    assert rendering.training(values, "arbitrary", "hu-window", 2)[:, 0].tolist() == [[0, 128], [64, 255]]


@pytest.mark.parametrize("intensity", get_args(Intensity))
def test_a_constant_volume_divides_by_nothing(intensity: str) -> None:
    rows = rendering.training(np.full((2, 4, 4), 7, np.int16), "arbitrary", intensity, 8)
    assert not rows.any()


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (512, 512), (7, 7)], ids=str)
def test_any_matrix_becomes_one_row_size_with_its_proportions(shape: tuple[int, int]) -> None:
    rows = rendering.fit(np.full((1, *shape), 200, np.uint8), 32)
    filled = np.argwhere(rows[0] == 200)
    height, width = np.ptp(filled, axis=0) + 1
    assert rows.shape == (1, 32, 32)
    assert (height, width) == tuple(32 * side // max(shape) for side in shape)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int8, np.uint8, np.int32])
def test_every_span_rounds_as_in_64_bits(dtype: type[np.integer[Any]]) -> None:
    ends = np.iinfo(dtype)
    for low, high in [(ends.min, ends.max), (0, 100), (3, 4), (ends.max - 101, ends.max), (0, ends.max), (1, ends.max)]:
        values = np.linspace(low, high, 4099).astype(dtype).reshape(1, 1, -1)
        assert np.array_equal(rendering.evidence(values)[0], plain_min_max(values[0]))


def test_short_spans_are_exact_at_every_level() -> None:
    for span in (*range(1, 1400), *range(2000, 4100, 30), 4095, 4096, 12345, 32767, 32768, 40000):
        levels = np.arange(span + 1).astype(np.uint16)[None, None]
        assert np.array_equal(rendering.evidence(levels)[0], plain_min_max(levels[0]))


def test_known_ends_change_nothing() -> None:
    values = np.random.default_rng(0).integers(-1024, 3000, (3, 16, 16)).astype(np.int16)
    values[1] = 7
    ends = rendering.ends_of(values)
    assert ends.tolist() == [[int(slice_.min()), int(slice_.max())] for slice_ in values]
    np.testing.assert_array_equal(rendering.evidence(values, ends), rendering.evidence(values))
