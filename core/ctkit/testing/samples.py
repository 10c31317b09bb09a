"""Small synthetic things to try plugins on: volumes, a slice store, a task, a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import NoParams, Rows, Slices, Split, Stack, Task
from ctkit.slices import rendering

SIDE = 64  #: pixels


def volume(slices: int, seed: int) -> Slices:
    """A body that changes from slice to slice, in air; every third slice is repeated by the next."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    hu = np.empty((slices, SIDE, SIDE), np.int16)
    for number in range(slices):
        if number % 3 == 1:
            hu[number] = hu[number - 1]
            continue
        radius, lung = rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.4)
        body = np.where(x**2 + (y * rng.uniform(1.0, 1.5)) ** 2 < radius**2, 40, -1000)
        body = np.where((np.abs(x) - 0.35) ** 2 + y**2 < lung**2, -800, body)
        hu[number] = body + rng.normal(0, 20, body.shape)
    return _slices(hu)


def constant(slices: int) -> Slices:
    """Slices of one value each: nothing but air, water, ..."""
    return _slices(
        np.full((slices, SIDE, SIDE), -1000, np.int16) + 500 * np.arange(slices, dtype=np.int16)[:, None, None]
    )


def _slices(hu: NDArray[np.int16]) -> Slices:
    return Slices(rendering.evidence(hu), hu, np.arange(len(hu)))


def rows(folder: Path, slices: int = 16, side: int = 32) -> Rows:
    """An arm of two shards, in a mixed order."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (slices, side, side), dtype=np.uint8)
    half = slices // 2
    shards = (folder / "0.npy", folder / "1.npy")
    np.save(shards[0], pixels[:half])
    np.save(shards[1], pixels[half:])
    number = rng.permutation(slices)
    shard = (number >= half).astype(np.int64)
    return Rows(
        shards, shard, number - half * shard, shard, side, float(pixels.mean() / 255), float(pixels.std() / 255)
    )


class Brightness(Task[NoParams]):
    """Dark and bright noise, with masks that are all of one class: what any protocol can tell apart, but not wholly."""

    positive = "bright"
    masks = True
    mean_std = (0.5, 0.25)
    _SIZES: Mapping[str, int] = {"train": 24, "val": 12, "test": 20}

    @property
    def classes(self) -> tuple[str, ...]:
        """Both classes."""
        return ("dark", "bright")

    def splits(self) -> Mapping[str, Split]:
        """Parts with as many dark as bright images, in volumes of four."""
        return {
            part: Split(
                tuple(f"{part}-{number}" for number in range(size)),
                np.arange(size, dtype=np.int64) % 2,
                stacks=tuple(Stack(f"{part} {number}", 4, (5.0, 1.0, 1.0)) for number in range(size // 4)),
            )
            for part, size in self._SIZES.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """Noise around one of two levels."""
        rng = np.random.default_rng([list(self._SIZES).index(split), number])
        level = rng.normal(110 + 40 * (number % 2), 30)
        return rng.normal(level, 30, (32, 32)).clip(0, 255).astype(np.uint8)

    def mask(self, split: str, number: int) -> NDArray[np.uint8]:
        """The image's class in every pixel."""
        return np.full((32, 32), number % 2, np.uint8)


def backbone(path: Path) -> Path:
    """Write a ResNet-18 that was never trained, as a method would: weights under torchvision's names."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {}

    def add(convolution: str, norm: str, out: int, into: int, side: int) -> None:
        spread = np.sqrt(2 / (out * side * side))
        weights[f"{convolution}.weight"] = rng.normal(0, spread, (out, into, side, side)).astype(np.float32)
        weights.update({f"{norm}.{name}": np.full(out, value, np.float32) for name, value in _NORM.items()})
        weights[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)

    add("conv1", "bn1", 64, 3, 7)
    width = 64
    for stage in range(1, 5):
        for block in range(2):
            here, out = f"layer{stage}.{block}", 32 << stage
            add(f"{here}.conv1", f"{here}.bn1", out, width, 3)
            add(f"{here}.conv2", f"{here}.bn2", out, out, 3)
            if width != out:
                add(f"{here}.downsample.0", f"{here}.downsample.1", out, width, 1)
            width = out
    save_file(weights, path, {"architecture": "resnet18", "mean": "0.5", "std": "0.25"})
    return path


_NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
