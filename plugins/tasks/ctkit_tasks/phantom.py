"""Tasks on phantom slices, built in: is there a lesion, where in the body is it, and which pixels are which organ?

The height of a slice is a label that synthetic CT has for free. In ``phantom-regions`` training images are upright;
those to be told are rotated, mirrored and brightened, which contrastive views teach to look through and random weights
do not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from ctkit import rendering
from ctkit.contracts import Params, Split, Stack, Task

if TYPE_CHECKING:
    from ctkit_phantom.lesions import LabelledSlices

CLASSES = ("pelvis", "lower-abdomen", "upper-abdomen", "lower-chest", "upper-chest", "neck")
BRIGHTNESS = 0.6, 1.4  #: factor of an image that is to be told


class PhantomLesionsParams(Params):
    """How many phantom patients there are, and what is shown of each."""

    train: int = Field(60, ge=4, description="training patients, every second one with a lesion")
    val: int = Field(20, ge=2, description="validation patients")
    test: int = Field(40, ge=2, description="test patients")
    slices: int = Field(2, ge=1, description="slices of each patient")
    size: int = Field(128, ge=32, le=512, description="side of a slice in pixels")
    area: float = Field(800.0, ge=100, le=10_000, description="smallest area of lesions in a slice that counts, mm^2")
    seed: int = Field(0, ge=0, description="seed of the patients")


class PhantomRegionsParams(Params):
    """How many phantom patients there are; each has one slice in every region."""

    train: int = Field(40, ge=2, description="training patients")
    val: int = Field(10, ge=1, description="validation patients")
    test: int = Field(40, ge=1, description="test patients")
    size: int = Field(128, ge=32, le=512, description="side of a slice in pixels")
    seed: int = Field(0, ge=0, description="seed of the patients")


class PhantomOrgansParams(Params):
    """How many phantom patients there are, and the stack of slices of each."""

    train: int = Field(24, ge=2, description="training patients, every second one with lesions")
    val: int = Field(6, ge=1, description="validation patients")
    test: int = Field(20, ge=1, description="test patients")
    slices: int = Field(16, ge=1, le=40, description="slices of each patient")
    slice_spacing: float = Field(12.0, gt=0, le=12, description="distance between neighbouring slices, in mm")
    size: int = Field(128, ge=32, le=512, description="side of a slice in pixels")
    seed: int = Field(0, ge=0, description="seed of the patients")


P = TypeVar("P", PhantomLesionsParams, PhantomRegionsParams, PhantomOrgansParams)


class PhantomPatients(Task[P], ABC):
    """Axial slices of patients, as many of each: those of train, then of val, then of test."""

    @property
    @abstractmethod
    def _slices(self) -> LabelledSlices:
        """Slices of ``_count`` patients."""

    def splits(self) -> Mapping[str, Split]:
        """The patients, one after the other: train, val, test."""
        return {
            name: Split(
                tuple(f"{name}-{number:05d}" for number in self._numbers(places)),
                self._slices.labels[places.start : places.stop],
                self._slices.patients[places.start : places.stop],
            )
            for name, places in self._places.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One slice (size, size) in the window that pre-training uses."""
        slice_ = self._slices.images[self._places[split][number]]
        image: NDArray[np.uint8] = rendering.training(slice_[None], "HU", "hu-window", self.params.size)[0]
        return image

    def _numbers(self, places: range) -> range:
        """The numbers in the names of a split's images."""
        return places

    @property
    def _count(self) -> int:
        return self.params.train + self.params.val + self.params.test

    @property
    def _places(self) -> dict[str, range]:
        """Where each split's images are among the slices."""
        each, train, val = len(self._slices.labels) // self._count, self.params.train, self.params.val
        bounds = {"train": (0, train), "val": (train, train + val), "test": (train + val, self._count)}
        return {name: range(start * each, end * each) for name, (start, end) in bounds.items()}


class PhantomLesions(PhantomPatients[PhantomLesionsParams]):
    """Axial phantom slices in the grey levels of pre-training.

    No patient is in two splits, and none is in the data set ``phantom``.
    """

    classes = ("healthy", "lesion")
    positive = "lesion"

    @cached_property
    def _slices(self) -> LabelledSlices:
        from ctkit_phantom.lesions import lesion_slices

        params = self.params
        return lesion_slices(params.seed, self._count, params.size, slices=params.slices, area=params.area)


class PhantomRegions(PhantomPatients[PhantomRegionsParams]):
    """Axial phantom slices in the grey levels of pre-training; validation and test images turned by any angle.

    No patient is in two splits, and none is in the data set ``phantom``.
    """

    classes = CLASSES

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One slice (size, size) in the window that pre-training uses, upright for training and turned else."""
        upright, place = super().image(split, number), self._places[split][number]
        return upright if split == "train" else turned(upright, np.random.default_rng([self.params.seed, place]))

    def _numbers(self, places: range) -> range:
        """Counted in each split from 0."""
        return range(len(places))

    @cached_property
    def _slices(self) -> LabelledSlices:
        from ctkit_phantom.regions import region_slices

        return region_slices(self.params.seed, self._count, self.params.size)


class PhantomOrgans(PhantomPatients[PhantomOrgansParams]):
    """Stacks of axial phantom slices with masks of lungs, liver and lesions, in the grey levels of pre-training.

    A slice is labelled with the last of the classes that it shows. No patient is in two splits, and none is in the data
    set ``phantom``.
    """

    classes = ("background", "lung", "liver", "lesion")
    masks = True

    def splits(self) -> Mapping[str, Split]:
        """The patients, one after the other: train, val, test."""
        return {name: replace(split, stacks=self._stacks(split, name)) for name, split in super().splits().items()}

    def mask(self, split: str, number: int) -> NDArray[np.uint8]:
        """What each pixel of a slice shows (size, size)."""
        mask: NDArray[np.uint8] = self._organs[1][self._places[split][number]]
        return mask

    def _stacks(self, split: Split, name: str) -> tuple[Stack, ...]:
        each, step = self.params.slices, self.params.slice_spacing
        pixels = self._organs[2][self._places[name].start // each :]
        patients = dict.fromkeys(split.patients or ())
        return tuple(Stack(name, each, (step, pixel, pixel)) for name, pixel in zip(patients, pixels, strict=False))

    @property
    def _slices(self) -> LabelledSlices:
        return self._organs[0]

    @cached_property
    def _organs(self) -> tuple[LabelledSlices, NDArray[np.uint8], list[float]]:
        from ctkit_phantom.lesions import organ_slices

        params = self.params
        return organ_slices(params.seed, self._count, params.size, params.slices, params.slice_spacing)


def turned(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Rotate an image by any angle, mirror every second, and change the brightness by up to 40 %."""
    rotated = np.asarray(Image.fromarray(image).rotate(rng.uniform(-180, 180), Image.Resampling.BILINEAR))
    bright = rotated[:, :: rng.choice([-1, 1])] * rng.uniform(*BRIGHTNESS)
    return np.clip(bright, 0, 255).astype(np.uint8)
