"""Data set ``phantom``: synthetic CT that is built in, for a first run, for tests and for the figures of the docs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from ctkit.contracts import Dataset, Ints, Params, Pixels, Skipped, SourceFile, Volume
from ctkit_phantom.body import LENGTH, Body, generator
from ctkit_phantom.scan import Scan


class PhantomParams(Params):
    """How many patients are scanned, and how."""

    patients: int = Field(16, ge=1, le=100_000, description="patients, one volume each")
    slices: int = Field(48, ge=1, le=600, description="slices of a volume")
    slice_spacing: float = Field(5.0, gt=0, le=50, description="distance between neighbouring slices, in mm")
    matrix: int = Field(128, ge=32, le=1024, description="rows and columns of a slice, in pixels")
    lesions: float = Field(0.5, ge=0, le=1, description="share of patients with 6 to 12 lesions in lungs and liver")
    seed: int = Field(0, ge=0, description="seed of the patients")

    @model_validator(mode="after")
    def _inside_the_body(self) -> Self:
        if self.slices * self.slice_spacing > LENGTH:
            raise ValueError(
                f"slices * slice_spacing must be at most {LENGTH:g} mm, the height of the phantom, "
                f"but is {self.slices * self.slice_spacing:g} mm; use fewer slices or a smaller slice_spacing"
            )
        return self


class Phantom(Dataset[PhantomParams]):
    """Volumes between abdomen and neck, each a pure function of the seed and the patient's number.

    Patients differ in build, organs, contrast agent, noise and the part of the body that is scanned.
    """

    def files(self) -> Iterator[SourceFile]:
        """There are none."""
        return iter(())

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield one volume per patient."""
        for number in range(self.params.patients):
            yield self.volume(number)

    def volume(self, number: int) -> Volume:
        """Describe the volume of patient ``number``."""
        pixel = self._scan(number).pixel
        return Volume(
            key=f"phantom-{number}",
            patient=f"phantom-{number}",
            files=(),
            slices=tuple((0, index) for index in range(self.params.slices)),
            rows=self.params.matrix,
            columns=self.params.matrix,
            spacing=(pixel, pixel, self.params.slice_spacing),
            details={"number": number},
        )

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Scan the patient."""
        number = int(volume.details["number"])
        index = np.arange(len(volume)) if wanted is None else np.asarray(wanted, np.int64)
        scan, lowest = self._scan(number), self.lowest(number)
        values = np.empty((len(index), volume.rows, volume.columns), np.int16)
        for target, i in zip(values, index.tolist(), strict=True):
            target[...] = scan.slice(lowest + i * self.params.slice_spacing, i)
        return Pixels(values, index, "HU")

    def lesions(self, number: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return where the lesions of patient ``number`` are: (slices, matrix, matrix)."""
        scan, lowest = self._scan(number), self.lowest(number)
        return np.stack([scan.lesions(lowest + i * self.params.slice_spacing) for i in range(self.params.slices)])

    def lowest(self, number: int) -> float:
        """Return the height of a patient's first slice in the phantom, in mm."""
        room = LENGTH - self.params.slices * self.params.slice_spacing
        return float(generator("first slice", self.params.seed, number).uniform(0.0, room))

    def _scan(self, number: int) -> Scan:
        diseased = bool(generator("disease", self.params.seed, number).random() < self.params.lesions)
        return Scan(Body(self.params.seed, number, diseased), self.params.matrix)
