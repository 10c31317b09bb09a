"""Task ``phantom-lesions``: is there a lesion in this slice of a phantom? Built in, so a first run ends in a score."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit import rendering
from ctkit.contracts import Params, Split, Task

if TYPE_CHECKING:
    from ctkit_phantom.lesions import LesionSlices


class PhantomLesionsParams(Params):
    """How many phantom patients there are, and what is shown of each."""

    train: int = Field(60, ge=4, description="training patients, every second of them with a lesion")
    val: int = Field(20, ge=2, description="validation patients")
    test: int = Field(40, ge=2, description="test patients")
    slices: int = Field(2, ge=1, description="slices of each patient")
    size: int = Field(128, ge=32, le=512, description="side of a slice in pixels")
    area: float = Field(800.0, ge=100, le=10_000, description="area of lesions that a slice shows at least, mm^2")
    seed: int = Field(0, ge=0, description="another seed gives other patients")


class PhantomLesions(Task[PhantomLesionsParams]):
    """Axial phantom slices in the grey levels of pre-training.

    No patient is in two splits, and none is in the data set ``phantom``.
    """

    positive = "lesion"

    @property
    def classes(self) -> tuple[str, ...]:
        """Healthy, and with a lesion."""
        return ("healthy", "lesion")

    def splits(self) -> Mapping[str, Split]:
        """The patients, one after the other: train, val, test."""
        return {
            name: Split(
                tuple(f"{name}-{number:05d}" for number in range(start * per, end * per)),
                self._slices.labels[start * per : end * per],
                self._slices.patients[start * per : end * per],
            )
            for per in [self.params.slices]
            for name, (start, end) in self._patients.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One slice (size, size) in the window that pre-training uses."""
        start, _ = self._patients[split]
        slice_ = self._slices.images[start * self.params.slices + number]
        image: NDArray[np.uint8] = rendering.training(slice_[None], "HU", "hu-window", self.params.size)[0]
        return image

    @property
    def _patients(self) -> dict[str, tuple[int, int]]:
        train, val, test = self.params.train, self.params.val, self.params.test
        return {"train": (0, train), "val": (train, train + val), "test": (train + val, train + val + test)}

    @cached_property
    def _slices(self) -> LesionSlices:
        from ctkit_phantom.lesions import lesion_slices

        count = self.params.train + self.params.val + self.params.test
        params = self.params
        return lesion_slices(params.seed, count, params.size, slices=params.slices, area=params.area)
