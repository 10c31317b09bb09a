"""Task ``phantom-regions``: where in the body does this slice of a phantom lie, however it is turned?

The height of a slice is a label that synthetic CT has for free. Training images are upright; those to be told are
rotated, mirrored and brightened, which contrastive views teach to look through and random weights do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from ctkit import rendering
from ctkit.contracts import Params, Split, Task

if TYPE_CHECKING:
    from ctkit_phantom.regions import RegionSlices

CLASSES = ("pelvis", "lower-abdomen", "upper-abdomen", "lower-chest", "upper-chest", "neck")
BRIGHTNESS = 0.6, 1.4  #: factor of an image that is to be told


class PhantomRegionsParams(Params):
    """How many phantom patients there are; each has one slice in every region."""

    train: int = Field(40, ge=2, description="training patients")
    val: int = Field(10, ge=1, description="validation patients")
    test: int = Field(40, ge=1, description="test patients")
    size: int = Field(128, ge=32, le=512, description="side of a slice in pixels")
    seed: int = Field(0, ge=0, description="another seed gives other patients")


class PhantomRegions(Task[PhantomRegionsParams]):
    """Axial phantom slices in the grey levels of pre-training; validation and test images turned by any angle.

    No patient is in two splits, and none is in the data set ``phantom``.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Six regions of 100 mm, from the lowest."""
        return CLASSES

    def splits(self) -> Mapping[str, Split]:
        """The patients, one after the other: train, val, test."""
        return {
            name: Split(
                tuple(f"{name}-{number:05d}" for number in range((end - start) * len(CLASSES))),
                self._slices.labels[start * len(CLASSES) : end * len(CLASSES)],
                self._slices.patients[start * len(CLASSES) : end * len(CLASSES)],
            )
            for name, (start, end) in self._patients.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One slice (size, size) in the window that pre-training uses, upright for training and turned else."""
        place = self._patients[split][0] * len(CLASSES) + number
        upright: NDArray[np.uint8] = rendering.training(
            self._slices.images[place][None], "HU", "hu-window", self.params.size
        )[0]
        return upright if split == "train" else turned(upright, np.random.default_rng([self.params.seed, place]))

    @property
    def _patients(self) -> dict[str, tuple[int, int]]:
        train, val, test = self.params.train, self.params.val, self.params.test
        return {"train": (0, train), "val": (train, train + val), "test": (train + val, train + val + test)}

    @cached_property
    def _slices(self) -> RegionSlices:
        from ctkit_phantom.regions import region_slices

        params = self.params
        return region_slices(params.seed, params.train + params.val + params.test, params.size)


def turned(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rotate an image by any angle, mirror every second, and change the brightness by up to 40 %."""
    rotated = np.asarray(Image.fromarray(image).rotate(rng.uniform(-180, 180), Image.Resampling.BILINEAR))
    bright = rotated[:, :: rng.choice([-1, 1])] * rng.uniform(*BRIGHTNESS)
    return np.clip(bright, 0, 255).astype(np.uint8)
