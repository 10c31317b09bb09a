from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import ndimage

from ctkit_tasks import augmentation as module

SIZE = 64


def augmentation(size: int) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The changes of an image alone."""
    change = module.augmentation(size)
    return lambda image, seed: change({"image": image}, seed)["image"]


@pytest.fixture
def disc() -> torch.Tensor:
    """A smooth grey disc, a quarter of the side wide, on black: (1, 64, 64) uint8."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return torch.from_numpy((200 / (1 + np.exp(np.hypot(x, y) - SIZE / 4)))[None].astype(np.uint8))


def test_an_image_is_a_function_of_its_seed_in_threads_too(disc: torch.Tensor) -> None:
    change = augmentation(SIZE)
    expected = [change(disc, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(change, [disc] * 8, range(8)))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert len({one.numpy().tobytes() for one in found}) == 8
    assert {(type(one), one.dtype, one.shape) for one in found} == {(torch.Tensor, torch.float32, (1, SIZE, SIZE))}


def test_it_changes_as_much_as_it_says(disc: torch.Tensor) -> None:
    change = augmentation(SIZE)
    found = [change(disc, seed)[0].numpy() for seed in range(200)]
    noise = np.array([image[:4].std() for image in found])  # the disc stays away from there
    assert 0.35 < (noise > 0).mean() < 0.65
    assert noise.max() < 255 / 20 * 1.1
    quiet = [image for image, spread in zip(found, noise, strict=True) if spread == 0]
    centres = np.array([ndimage.center_of_mass(image) for image in quiet]) - (SIZE - 1) / 2
    assert 2 < np.abs(centres).max() < SIZE / 20 + 0.4
    peak = np.array([image.max() for image in quiet]) / disc.max().item()
    assert (0.9 <= peak.min() < 0.95, 1.05 < peak.max() <= 1.1) == (True, True)
    assert 0.35 < (np.abs(peak - 1) > 1e-3).mean() < 0.65
    sides = np.sqrt([(image > image.max() / 2).mean(axis=(0, 1)) for image in quiet])
    sides /= np.sqrt((disc[0] > disc.max() / 2).numpy().mean())
    assert 0.88 < sides.min() < 0.95
    assert 1.05 < sides.max() < 1.13


def test_the_border_is_repeated_and_no_black_comes_in() -> None:
    image = torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8)
    found = [augmentation(SIZE)(image, seed) for seed in range(20)]
    assert min(image.mean() for image in found) > 85
    assert any(torch.allclose(each, torch.tensor(100.0)) for each in found)


def test_a_mask_goes_where_its_image_goes_and_keeps_its_values(disc: torch.Tensor) -> None:
    mask, change = 2 * (disc > 100).byte(), module.augmentation(SIZE)
    for seed in range(20):
        found = change({"image": disc, "mask": mask}, seed)
        assert torch.equal(found["image"], change({"image": disc}, seed)["image"])
        assert set(found["mask"].unique().tolist()) == {0, 2}
        smooth = ndimage.gaussian_filter(found["image"].numpy(), (0, 1, 1))
        assert ((found["mask"].numpy() > 0) == (smooth > smooth.max() / 2)).mean() > 0.97
