from __future__ import annotations

import weakref
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ctkit.contracts import Group, Slices
from ctkit.errors import DataError
from ctkit_reducers import ssim
from ctkit_reducers.pairs import place
from ctkit_reducers.ssim import MEMORY, WINDOW, Ssim, ssim_triangle


def reference(grey: NDArray[np.uint8]) -> list[float]:
    from skimage.metrics import structural_similarity  # a machine with a GPU need not have it

    return [structural_similarity(one, other, data_range=255) for one, other in combinations(grey, 2)]


def distances(grey: NDArray[np.uint8], device: str = "cpu") -> NDArray[np.float32]:
    return Ssim().describe(Slices(grey, None, np.arange(len(grey)), device))


def test_similarity_is_scikit_images(drifting: NDArray[np.uint8]) -> None:
    np.testing.assert_allclose(ssim_triangle(drifting), reference(drifting), rtol=0, atol=1e-6)


@given(arrays(np.uint8, st.tuples(st.integers(2, 4), st.integers(7, 20), st.integers(7, 20))))
@settings(max_examples=50)
def test_similarity_is_scikit_images_on_any_slices(grey: NDArray[np.uint8]) -> None:
    np.testing.assert_allclose(ssim_triangle(grey), reference(grey), rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0, 64, 255])
def test_large_even_areas_do_not_lose_precision(level: int, drifting: NDArray[np.uint8]) -> None:
    grey = drifting[:4].copy()
    grey[:, :30] = level
    np.testing.assert_allclose(ssim_triangle(grey), reference(grey), rtol=0, atol=1e-5)


@pytest.mark.parametrize("at_once", [(1, 1), (5, 3), (100, 100)])
def test_how_much_is_worked_on_at_a_time_changes_nothing_that_matters(
    at_once: tuple[int, int], drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ssim_triangle(drifting[:6])
    monkeypatch.setattr(ssim, "AT_ONCE", at_once)
    np.testing.assert_allclose(ssim_triangle(drifting[:6]), whole, rtol=0, atol=1e-6)


def test_torch_gives_what_numpy_gives(drifting: NDArray[np.uint8]) -> None:
    # "cpu:0" names the CPU to torch and is not ctkit's "cpu", so the accelerator's way is taken
    np.testing.assert_allclose(ssim_triangle(drifting, "cpu:0"), ssim_triangle(drifting), rtol=0, atol=1e-6)


@pytest.mark.parametrize("memory", [1, 1 << 20])
def test_the_memory_of_an_accelerator_changes_nothing_that_matters(
    memory: int, drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ssim_triangle(drifting[:6], "cpu:0")
    monkeypatch.setattr(ssim, "MEMORY", memory)
    np.testing.assert_allclose(ssim_triangle(drifting[:6], "cpu:0"), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [2, 240, 2000])
def test_rows_of_all_slices_fit_into_the_memory_that_they_may_take(n: int) -> None:
    rows, pairs = ssim._at_once(n, 512, "meta")
    rows = min(rows + WINDOW - 1, 512)
    strip = ssim._Strip.of(np.broadcast_to(np.uint8(0), (n, rows, 512)), "meta", pairs)
    taken = sum(term.nbytes for term in vars(strip).values() if hasattr(term, "nbytes"))
    assert taken < MEMORY
    assert rows == 512 or taken > MEMORY / 2


def test_one_strip_is_gone_before_the_next_one_is_made(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []
    make = ssim._Strip.of

    def watched(*args: Any) -> Any:
        assert all(strip() is None for strip in made)
        strip = make(*args)
        made.append(weakref.ref(strip))
        return strip

    monkeypatch.setattr(ssim._Strip, "of", watched)
    monkeypatch.setattr(ssim, "MEMORY", 1)
    ssim_triangle(drifting[:3], "cpu:0")
    assert len(made) == drifting.shape[1] - WINDOW + 1


def test_little_but_the_pixels_is_brought_to_the_device(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[int] = []

    def counted(array: NDArray[Any], device: str) -> Any:
        placed.append(array.size)
        return place(array, device)

    monkeypatch.setattr(ssim, "place", counted)
    ssim_triangle(drifting, "cpu:0")
    assert sum(placed) < drifting.size + len(drifting) ** 2 + drifting[0].size


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives(drifting: NDArray[np.uint8], cuda: str) -> None:
    np.testing.assert_allclose(distances(drifting, cuda), distances(drifting), rtol=0, atol=1e-6)


def test_equal_slices_are_exactly_0_apart(drifting: NDArray[np.uint8]) -> None:
    assert distances(np.stack([drifting[3], drifting[3]])).tolist() == [0]


def test_constant_slices_are_alike_among_themselves_only(drifting: NDArray[np.uint8]) -> None:
    black, white = np.zeros_like(drifting[0]), np.full_like(drifting[0], 255)
    assert distances(np.stack([black, drifting[0], white])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_slices_have_no_pair(n: int, drifting: NDArray[np.uint8]) -> None:
    assert distances(drifting[:n]).shape == (0,)


def test_slices_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(DataError, match="at least 7 x 7 pixels for SSIM but are 6 x 9"):
        distances(np.zeros((2, 6, 9), np.uint8))


@pytest.mark.real
@pytest.mark.slow
def test_every_pair_of_a_real_volume_is_scikit_images(published_slices: dict[str, NDArray[np.uint8]]) -> None:
    grey = np.stack([image for name, image in published_slices.items() if name.startswith("LIDC-IDRI-0306")])
    expected = 1 - np.array(reference(grey))
    found = distances(grey)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    thresholds = [at for at in np.linspace(0.02, 0.6, 30) if np.abs(expected - at).min() > 1e-4]
    assert len(thresholds) > 5
    for at in thresholds:
        group = Group(np.zeros(len(grey), np.int64), np.arange(len(grey)), found)
        kept = Ssim().select(group, at, np.random.default_rng()).kept
        assert kept.tolist() == _plain_loop(expected, len(grey), at)


@pytest.mark.real
def test_pairs_of_real_slices_are_scikit_images(published_slices: dict[str, NDArray[np.uint8]]) -> None:
    names = sorted(published_slices)[::50]
    grey = np.stack([published_slices[name] for name in names])
    np.testing.assert_allclose(1 - distances(grey), reference(grey), rtol=0, atol=1e-4)


def _plain_loop(triangle: NDArray[np.float64], n: int, at: float) -> list[bool]:
    pairs = dict(zip(combinations(range(n), 2), triangle, strict=True))
    kept: list[int] = []
    for slice_ in range(n):
        if all(pairs[earlier, slice_] > at for earlier in kept):
            kept.append(slice_)
    return [slice_ in kept for slice_ in range(n)]
