"""Data set ``nifti``: any folder tree of ``.nii`` and ``.nii.gz`` files, one volume each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ctkit.contracts import Dataset, Ints, Pixels, Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit_datasets.filters import FolderParams, chosen, unwanted
from ctkit_datasets.nifti_files import Unit, header_facts, read_slices, slice_places
from ctkit_datasets.source_files import walk

SUFFIXES = (".nii", ".nii.gz")


class NiftiParams(FolderParams):
    """Which files to use, whose they are, and what their values mean."""

    patient: str = Field(
        "",
        description="regular expression that is searched in a file's path below root; its first group, or all of it, "
        "names the patient. Empty: the first folder of the path, the file's name where there is none",
    )
    unit: Unit = Field(
        "auto",
        description="unit of the values. auto: HU where a volume holds values of -200 or less, as air and lung have, "
        "and no value beyond 16 bits; else arbitrary",
    )
    orientation: Literal["axial", "any"] = Field(
        "axial",
        description="acquired planes to use; other ones are cut into axial slices",
        json_schema_extra={"address": False},
    )

    @field_validator("patient")
    @classmethod
    def _is_expression(cls, patient: str) -> str:
        try:
            re.compile(patient)
        except re.error as error:
            raise ValueError(f"must be a regular expression, but {patient!r} is none: {error}") from error
        return patient


class Nifti(Dataset[NiftiParams]):
    """Axial slices from NIfTI files in any orientation, lowest first.

    Files with several volumes, label maps, colours, and damaged or truncated files are left out with the reason.
    """

    version = 2

    def files(self) -> Iterator[SourceFile]:
        """Every file below the root."""
        return walk(self.params.root)

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read one header."""
        if not file.path.lower().endswith(SUFFIXES):
            return Skipped(file.path, "no NIfTI file by its name, which should end in .nii or .nii.gz")
        try:
            return header_facts(self.params.root / file.path, file.size)
        except DataError as error:
            return Skipped(file.path, str(error), error.retry)

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per file, in the order of their paths."""
        return chosen(self._volumes(headers), self.params)

    def _volumes(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per file that is asked for, and the others with the reason."""
        for file, facts in headers:
            reason = unwanted(file.path, self.params)
            if not reason and self.params.orientation != "any" and facts["plane"] != "axial":
                reason = f"acquired in {facts['plane']} slices"
            if reason:
                yield Skipped(file.path, reason)
            else:
                yield nifti_volume(file, facts, self._patient(file.path))

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode a file. Unlike in DICOM, all of a volume is lost with its file."""
        return read_slices(self.params.root / volume.files[0].path, volume.details, wanted, self.params.unit)

    def places(self, volume: Volume, index: Ints) -> NDArray[np.float64]:
        """Where slices lie, from the file's header."""
        return slice_places(volume.details, index)

    def _patient(self, path: str) -> str:
        found = re.search(self.params.patient, path) if self.params.patient else None
        if found:
            return found.group(1 if found.re.groups else 0) or path
        return path.partition("/")[0]


def nifti_volume(file: SourceFile, facts: Mapping[str, Any], patient: str) -> Volume:
    """Return the volume that a file with these facts from its header holds."""
    count, rows, columns = facts["shape"]
    x, y, z = facts["spacing"]
    return Volume(
        key=file.path,
        patient=patient,
        files=(file,),
        slices=tuple((0, index) for index in range(count)),
        rows=rows,
        columns=columns,
        spacing=(x, y, z),
        notes=tuple(facts["notes"]),
        details=facts,
    )
