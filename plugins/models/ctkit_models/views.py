"""Augmented views of a batch of slices, made on the batch's device with parameters of its own for each sample.

Transforms, called ``random_...``, draw the parameters of each sample and hand them to functions that take them; a
``View`` is a sequence of transforms. Parameters mean what they mean in torchvision and lightly; the tests compare
distributions and outputs with theirs. Hue, saturation and greyscale are missing because they do nothing to one channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ctkit_models.parameters import ContrastiveParams
from ctkit_torch.seeding import derived_seed

ATTEMPTS = 10  #: tries for a crop that fits, as in torchvision's RandomResizedCrop
NOISE_BLOCK = 16  #: samples whose noise comes from one generator


class Draws:
    """Random numbers for the samples of one step: a pure function of seed, step and rank.

    Every process draws the parameters of the whole batch and takes its own rows, so that what a sample gets does not
    depend on how the batch is split. Noise images would cost too much that way: they are drawn in blocks of samples,
    each from a generator of its own.
    """

    def __init__(
        self, seed: int, step: int, samples: int, *, rank: int = 0, world: int = 1, device: str | torch.device = "cpu"
    ) -> None:
        self.samples = samples
        self.device = torch.device(device)
        self._rows = slice(rank * samples, (rank + 1) * samples)
        self._total = samples * world
        self._parameters = torch.Generator(device).manual_seed(derived_seed(seed, step, 0))
        self._noise = torch.Generator(device)
        self._noise_seed = (seed, step, 1)
        self._noises = 0  # drawn so far

    def uniform(self, low: float = 0.0, high: float = 1.0, *, times: int = 1) -> Tensor:
        """(samples,) numbers in low..high; (samples, times) where ``times`` is more than one."""
        numbers = torch.rand(self._total, times, generator=self._parameters, device=self.device)[self._rows]
        return (low + (high - low) * numbers).squeeze(1) if times == 1 else low + (high - low) * numbers

    def chance(self, p: float) -> Tensor:
        """(samples,) bool, true with probability ``p``."""
        return self.uniform() < p

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers of ``shape``, whose first axis is the samples."""
        first, last = self._rows.start // NOISE_BLOCK, (self._rows.stop - 1) // NOISE_BLOCK
        blocks = [self._noise_block(number, tuple(shape[1:])) for number in range(first, last + 1)]
        self._noises += 1
        skipped = self._rows.start - first * NOISE_BLOCK
        return torch.cat(blocks)[skipped : skipped + self.samples]

    def _noise_block(self, number: int, shape: tuple[int, ...]) -> Tensor:
        self._noise.manual_seed(derived_seed(*self._noise_seed, self._noises, number))
        return torch.randn((NOISE_BLOCK, *shape), generator=self._noise, device=self.device)


#: A step of a view: images (n, c, h, w) in, each transformed with parameters drawn for it.
Transform = Callable[[Tensor, Draws], Tensor]


@dataclass(frozen=True)
class View:
    """Transforms in order; turns slices (n, h, w) uint8 into a view (n, 1, size, size) float32."""

    transforms: tuple[Transform, ...]

    def __call__(self, slices: Tensor, draws: Draws) -> Tensor:
        """One view of each slice."""
        images = slices.unsqueeze(1).float() / 255
        for transform in self.transforms:
            images = transform(images, draws)
        return images


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop a share ``scale`` of the area with an aspect ``ratio``, and resize it to ``size`` pixels, antialiased."""

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(n, c, h, w) to (n, c, size, size)."""
        return crop_and_resize(images, *self.boxes(images.shape[-2], images.shape[-1], draws), self.size)

    def boxes(self, rows: int, columns: int, draws: Draws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width (n,) in whole pixels: the first of ten tries that fits, or the middle."""
        area = rows * columns * draws.uniform(*self.scale, times=ATTEMPTS)
        aspect = draws.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), times=ATTEMPTS).exp()
        widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (widths > 0) & (widths <= columns) & (heights > 0) & (heights <= rows)
        first = fits.int().argmax(dim=1, keepdim=True)
        middle_height, middle_width = self._middle(rows, columns)
        found = fits.any(dim=1)
        height = torch.where(found, heights.gather(1, first).squeeze(1), middle_height)
        width = torch.where(found, widths.gather(1, first).squeeze(1), middle_width)
        top = torch.where(found, _whole(draws.uniform(), rows - height), ((rows - height) / 2).floor())
        left = torch.where(found, _whole(draws.uniform(), columns - width), ((columns - width) / 2).floor())
        return top, left, height, width

    def _middle(self, rows: int, columns: int) -> tuple[float, float]:
        aspect = min(max(columns / rows, self.ratio[0]), self.ratio[1])
        return (round(columns / aspect), columns) if columns / rows < aspect else (rows, round(rows * aspect))


def random_flip(images: Tensor, draws: Draws, axis: int, p: float) -> Tensor:
    """Mirror along the image axis ``axis`` (-1: left and right, -2: top and bottom) with probability ``p``."""
    return _where(draws.chance(p), images.flip(axis), images)


def random_rotation(images: Tensor, draws: Draws, degrees: float, p: float) -> Tensor:
    """Rotate by an angle in -``degrees``..``degrees`` with probability ``p``; what comes from outside is 0."""
    applied, angles = draws.chance(p), draws.uniform(-degrees, degrees)
    return _where(applied, rotate(images, angles), images)


def random_jitter(images: Tensor, draws: Draws, brightness: float, contrast: float, p: float) -> Tensor:
    """Brightness and contrast, in 0..1, by factors in 1 - x..1 + x, in either order, with probability ``p``."""
    applied, brighter_first = draws.chance(p), draws.chance(0.5)
    bright = draws.uniform(max(0.0, 1 - brightness), 1 + brightness)
    contrasts = draws.uniform(max(0.0, 1 - contrast), 1 + contrast)
    one = adjust_contrast(adjust_brightness(images, bright), contrasts)
    other = adjust_brightness(adjust_contrast(images, contrasts), bright)
    return _where(applied, _where(brighter_first, one, other), images)


def random_blur(images: Tensor, draws: Draws, sigma: tuple[float, float], p: float) -> Tensor:
    """Gaussian blur with a standard deviation in ``sigma``, pixels of the view, with probability ``p``."""
    applied, sigmas = draws.chance(p), draws.uniform(*sigma)
    radius = min(math.ceil(3 * sigma[1]), min(images.shape[-2:]) - 1)
    return _where(applied, gaussian_blur(images, sigmas, radius), images)


def random_noise(images: Tensor, draws: Draws, variance: tuple[float, float], p: float) -> Tensor:
    """Add Gaussian noise of a variance in ``variance``, on the scale 0..1, with probability ``p``."""
    applied, deviation = draws.chance(p), draws.uniform(*variance).sqrt()
    if p == 0:
        return images
    return images + draws.noise(images.shape) * _column(deviation * applied)


@dataclass(frozen=True)
class Normalise:
    """Subtract ``mean`` and divide by ``std``, both on the scale 0..1."""

    mean: float
    std: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """(n, c, h, w) to the same."""
        return (images - self.mean) / self.std


def augmented_view(params: ContrastiveParams, normalise: Normalise, size: int, scale: tuple[float, float]) -> View:
    """A view of ``size`` pixels that shows a share ``scale`` of the slice, in the order of lightly's transforms."""
    return View(
        (
            RandomResizedCrop(size, scale),
            partial(random_flip, axis=-1, p=params.flip_horizontal),
            partial(random_flip, axis=-2, p=params.flip_vertical),
            partial(random_rotation, degrees=params.rotation, p=params.rotation_p),
            partial(random_jitter, brightness=params.brightness, contrast=params.contrast, p=params.jitter_p),
            partial(random_blur, sigma=params.blur, p=params.blur_p),
            partial(random_noise, variance=params.noise, p=params.noise_p),
            normalise,
        )
    )


def crop_and_resize(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int) -> Tensor:
    """Cut a box (n,) of pixels out of each image (n, c, h, w) and resize it to (n, c, size, size).

    Two matrix products with triangle weights, which is what Pillow's and torch's antialiased bilinear resize computes.
    """
    down = _triangle_weights(top, height, images.shape[-2], size)  # (n, size, h)
    across = _triangle_weights(left, width, images.shape[-1], size)  # (n, size, w)
    return down.unsqueeze(1) @ images @ across.unsqueeze(1).transpose(-1, -2)


def _triangle_weights(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """(n, size, pixels) weights of each source pixel in each output pixel of the box start..start + length."""
    position = torch.arange(pixels, device=start.device) + 0.5 - _row(start)  # (n, 1, pixels) inside the box
    scale = _row(length) / size
    centre = (torch.arange(size, device=start.device).unsqueeze(1) + 0.5) * scale  # (n, size, 1)
    weights = (1 - (position - centre).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((position > 0) & (position < _row(length)))
    return weights / weights.sum(dim=-1, keepdim=True)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image (n, c, h, w) counter-clockwise about its centre, bilinear, 0 outside."""
    rows, columns = images.shape[-2:]
    cosine, sine = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    zero = torch.zeros_like(cosine)
    across = torch.stack([cosine, -sine * rows / columns, zero], dim=1)
    down = torch.stack([sine * columns / rows, cosine, zero], dim=1)
    matrices = torch.stack([across, down], dim=1)  # (n, 2, 3) from output to input, in halves of the image's sides
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply each image (n, c, h, w) by its factor (n,), within 0..1."""
    return (images * _column(factor)).clamp(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move each image (n, c, h, w) away from its mean by its factor (n,), within 0..1."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + _column(factor) * (images - mean)).clamp(0, 1)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image (n, c, h, w) by its sigma (n,) pixels; the kernel reaches ``radius`` pixels, edges reflect."""
    n, c, rows, columns = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = (-0.5 * (offsets / sigma.unsqueeze(1)) ** 2).exp()
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)  # (n * c, taps)
    padded = functional.pad(images, [radius] * 4, mode="reflect").reshape(1, n * c, rows + 2 * radius, -1)
    across = functional.conv2d(padded, kernel[:, None, None, :], groups=n * c)
    return functional.conv2d(across, kernel[:, None, :, None], groups=n * c).reshape(n, c, rows, columns)


def _whole(uniform: Tensor, high: Tensor) -> Tensor:
    """Whole numbers 0..``high``, from uniform ones in 0..1."""
    return (uniform * (high + 1)).floor().minimum(high)


def _row(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1)


def _column(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(_column(chosen), yes, no)
