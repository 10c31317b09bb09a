from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import torchvision.transforms as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.transforms.gaussian_blur import GaussianBlur
from PIL import Image
from scipy import stats
from torch import Tensor
from torchvision.transforms import functional
from torchvision.transforms.functional import InterpolationMode

from ctkit_models.views import (
    Draws,
    Normalise,
    RandomResizedCrop,
    Transform,
    View,
    adjust_brightness,
    adjust_contrast,
    crop_and_resize,
    gaussian_blur,
    random_blur,
    random_flip,
    random_jitter,
    random_noise,
    random_rotation,
    rotate,
)


def smooth_images(n: int = 4, rows: int = 40, columns: int = 56) -> Tensor:
    coarse = torch.rand(n, 1, 10, 14, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(rows, columns), mode="bicubic").clamp(0, 1)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


BOXES = [(0, 0, 40, 56), (3, 5, 21, 17), (10, 20, 8, 30), (39, 55, 1, 1)]


@pytest.mark.parametrize("size", [12, 24, 64], ids=["smaller", "mixed", "larger"])
def test_each_crop_equals_torchvisions_antialiased_crop(size: int) -> None:
    images = smooth_images()
    ours = crop_and_resize(images, *(numbers(*side) for side in zip(*BOXES, strict=True)), size)
    for i, (top, left, height, width) in enumerate(BOXES):
        theirs = functional.resized_crop(images[i], top, left, height, width, [size, size], antialias=True)
        torch.testing.assert_close(ours[i], theirs, rtol=0, atol=2e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 56), st.integers(1, 50), st.data())
def test_any_crop_equals_torchvisions(height: int, width: int, size: int, data: st.DataObject) -> None:
    images = smooth_images(1)
    top, left = data.draw(st.integers(0, 40 - height)), data.draw(st.integers(0, 56 - width))
    ours = crop_and_resize(images, numbers(top), numbers(left), numbers(height), numbers(width), size)
    theirs = functional.resized_crop(images, top, left, height, width, [size, size], antialias=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_crop_boxes_are_distributed_as_torchvisions() -> None:
    scale, ratio = (0.2, 1.0), (3 / 4, 4 / 3)
    boxes = RandomResizedCrop(8, scale, ratio).boxes(40, 56, Draws(3, 0, 4000))
    ours = torch.stack(boxes, dim=1).numpy()
    image = torch.zeros(1, 40, 56)
    torch.manual_seed(5)
    theirs = np.array([reference.RandomResizedCrop.get_params(image, scale, ratio) for _ in range(4000)])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    areas = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    assert stats.ks_2samp(*areas).pvalue > 1e-3
    assert (ours >= 0).all()
    assert (ours[:, 0] + ours[:, 2]).max() <= 40
    assert (ours[:, 1] + ours[:, 3]).max() <= 56


@pytest.mark.parametrize(("rows", "columns"), [(4, 64), (64, 4)], ids=["wide", "tall"])
def test_a_crop_that_never_fits_is_the_middle_as_in_torchvision(rows: int, columns: int) -> None:
    scale, ratio = (1.0, 1.0), (0.9, 1.1)
    box = RandomResizedCrop(8, scale, ratio).boxes(rows, columns, Draws(0, 0, 1))
    theirs = reference.RandomResizedCrop.get_params(torch.zeros(1, rows, columns), scale, ratio)
    assert tuple(int(side) for side in box) == theirs


@pytest.mark.parametrize("shape", [(48, 48), (40, 56)], ids=["square", "oblong"])
def test_each_rotation_equals_torchvisions(shape: tuple[int, int]) -> None:
    angles = (30.0, -77.5, 180.0, 0.0)
    images = smooth_images(4, *shape)
    ours = rotate(images, numbers(*angles))
    for i, angle in enumerate(angles):
        theirs = functional.rotate(images[i], angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours[i], theirs, rtol=0, atol=1e-4)


def test_each_blur_equals_torchvisions() -> None:
    sigmas = (0.1, 0.5, 1.3, 2.0)
    images = smooth_images().repeat(1, 3, 1, 1)
    ours = gaussian_blur(images, numbers(*sigmas), radius=6)
    for i, sigma in enumerate(sigmas):
        theirs = functional.gaussian_blur(images[i], [13, 13], [sigma, sigma])
        torch.testing.assert_close(ours[i], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_the_blur_radius_means_what_it_means_in_lightly(sigma: float) -> None:
    image = (smooth_images(1, 64, 64) * 255).round()
    pixels = Image.fromarray(image[0, 0].byte().numpy())
    theirs = np.asarray(GaussianBlur(prob=1.0, sigmas=(sigma, sigma))(pixels), dtype=np.float32)
    inside = slice(8, -8)  # at the edges Pillow repeats the last pixel where we reflect

    def difference(ours: float) -> float:
        blurred = gaussian_blur(image, numbers(ours), radius=9)[0, 0].numpy()
        return float(np.abs(blurred - theirs)[inside, inside].mean())

    assert difference(sigma) < 1, "grey level of 255; Pillow approximates with boxes"
    assert difference(sigma) < min(difference(0.7 * sigma), difference(1.4 * sigma))


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_brightness_and_contrast_equal_torchvisions(factor: float) -> None:
    images = smooth_images()
    factors = torch.full((4,), factor)
    torch.testing.assert_close(adjust_brightness(images, factors), functional.adjust_brightness(images, factor))
    expected = torch.stack([functional.adjust_contrast(image, factor) for image in images])
    torch.testing.assert_close(adjust_contrast(images, factors), expected)


def test_jitter_is_distributed_as_torchvisions() -> None:
    images = smooth_images(1, 12, 12).expand(3000, -1, -1, -1)
    ours = random_jitter(images, Draws(1, 0, 3000), brightness=0.4, contrast=0.3, p=1.0)
    torch.manual_seed(2)
    jitter = reference.ColorJitter(0.4, 0.3)
    theirs = torch.stack([jitter(images[0]) for _ in range(3000)])
    for statistic in (lambda x: x.mean(dim=(1, 2, 3)), lambda x: x.std(dim=(1, 2, 3)), lambda x: x.amax(dim=(1, 2, 3))):
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3


@pytest.mark.parametrize("axis", [-1, -2])
def test_flips_mirror_the_named_axis_of_the_share_p(axis: int) -> None:
    images = smooth_images(1).expand(4000, -1, -1, -1)
    flipped = random_flip(images, Draws(1, 0, 4000), axis=axis, p=0.3)
    mirrored = (flipped == images.flip(axis)).flatten(1).all(dim=1)
    unchanged = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ unchanged).all()
    assert stats.binomtest(int(mirrored.sum()), 4000, 0.3).pvalue > 1e-3


def test_noise_has_the_variance_that_was_asked_for() -> None:
    images = torch.zeros(2000, 1, 16, 16)
    noise = random_noise(images, Draws(1, 0, 2000), variance=(0.01, 0.01), p=0.5)
    noisy = noise.flatten(1).abs().sum(dim=1) > 0
    assert stats.binomtest(int(noisy.sum()), 2000, 0.5).pvalue > 1e-3
    assert noise[noisy].var().item() == pytest.approx(0.01, rel=0.02)
    assert stats.kstest(noise[noisy].flatten()[:5000] / 0.1, "norm").pvalue > 1e-3


def test_blur_and_rotation_draw_uniformly_for_each_sample() -> None:
    point = torch.zeros(3000, 1, 41, 41)
    point[:, :, 20, 35] = 1
    turned = random_rotation(point, Draws(1, 0, 3000), degrees=180, p=1.0)
    place = turned.flatten(1).argmax(dim=1)
    angles = torch.atan2(20.0 - place // 41, place % 41 - 20.0)
    assert stats.kstest(angles / math.pi, stats.uniform(-1, 2).cdf).pvalue > 1e-6, "angles are rounded to pixels"
    blurred = random_blur(point, Draws(2, 0, 3000), sigma=(0.5, 2.0), p=1.0)
    assert blurred.amax(dim=(1, 2, 3)).unique().numel() > 2500


@pytest.mark.parametrize(
    "transform",
    [
        partial(random_flip, axis=-1, p=0.0),
        partial(random_rotation, degrees=90, p=0.0),
        partial(random_jitter, brightness=0.4, contrast=0.4, p=0.0),
        partial(random_blur, sigma=(0.1, 2.0), p=0.0),
        partial(random_noise, variance=(1.0, 1.0), p=0.0),
        Normalise(0.0, 1.0),
    ],
    ids=["left and right", "rotation", "jitter", "blur", "noise", "normalise"],
)
def test_a_transform_of_probability_nought_changes_nothing(transform: Transform) -> None:
    images = smooth_images()
    assert torch.equal(transform(images, Draws(0, 0, 4)), images)


def full_view() -> View:
    return View(
        (
            RandomResizedCrop(24, (0.2, 1.0)),
            partial(random_flip, axis=-1, p=0.5),
            partial(random_rotation, degrees=180, p=0.5),
            partial(random_jitter, brightness=0.4, contrast=0.4, p=0.8),
            partial(random_blur, sigma=(0.1, 2.0), p=0.5),
            partial(random_noise, variance=(1e-5, 1e-4), p=0.5),
            Normalise(0.4, 0.2),
        )
    )


def test_a_view_is_a_pure_function_of_seed_and_step() -> None:
    slices = (smooth_images(6)[:, 0] * 255).byte()
    views = [full_view()(slices, Draws(seed, step, 6)) for seed, step in ((1, 5), (1, 5), (1, 6), (2, 5))]
    assert views[0].shape == (6, 1, 24, 24)
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    assert not torch.equal(views[0], views[3])


def test_a_sample_is_augmented_alike_however_the_batch_is_split_over_processes() -> None:
    slices = (smooth_images(40)[:, 0] * 255).byte()
    whole = full_view()(slices, Draws(1, 5, 40))
    for world in (2, 5):
        n = 40 // world
        parts = [
            full_view()(slices[n * rank : n * rank + n], Draws(1, 5, n, rank=rank, world=world))
            for rank in range(world)
        ]
        torch.testing.assert_close(torch.cat(parts), whole)


def test_noise_differs_between_samples_views_and_steps() -> None:
    draws = Draws(1, 5, 40)
    noises = torch.cat([draws.noise((40, 50)), draws.noise((40, 50)), Draws(1, 6, 40).noise((40, 50))])
    correlation = torch.corrcoef(noises) - torch.eye(120)
    assert correlation.abs().max() < 0.7, "50 independent numbers are never that alike"
