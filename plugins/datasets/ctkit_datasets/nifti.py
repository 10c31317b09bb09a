"""Data set ``nifti``: any folder tree of ``.nii`` and ``.nii.gz`` files, one volume each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ctkit.contracts import Dataset, Ints, Pixels, Skipped, SourceFile, Volume, VolumeFacts
from ctkit.errors import DataError
from ctkit_datasets.file_kinds import other_kind
from ctkit_datasets.filters import FolderParams, Unit, chosen, unwanted
from ctkit_datasets.metaimage_files import data_file, volume_header
from ctkit_datasets.nifti_files import label_values, read_slices, slice_places
from ctkit_datasets.nifti_layouts import mask_by_place, roles
from ctkit_datasets.nifti_masks import mask_findings
from ctkit_datasets.source_files import walk

SUFFIXES = (".nii", ".nii.gz")


class NiftiParams(FolderParams):
    """Which files to use, whose they are, and what their values mean."""

    patient: str = Field(
        "",
        description="regular expression that is searched in a file's path below root; its first group, or all of it, "
        "names the patient. Empty: as the layout has it, else the first folder of the path that holds one patient's "
        "files, or the file's name",
    )
    layout: Literal["auto", "any"] = Field(
        "auto",
        description="auto: skip label maps, and files of public archives that are not CT. any: each file is a CT scan",
    )
    unit: Unit = Field(
        "auto",
        description="unit of the values. auto: HU where one voxel in a thousand is at -200 or less, as air and lung, "
        "and few are beyond bone; else arbitrary",
    )
    orientation: Literal["axial", "any"] = Field(
        "axial",
        description="acquired planes to use; others are cut into axial slices",
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
        """Read one header, and of what may be a label map the voxels."""
        if not file.path.lower().endswith(SUFFIXES):
            other = other_kind(self.params.root / file.path, "nifti")
            return Skipped(file.path, other or "not a NIfTI file by its name, which should end in .nii or .nii.gz")
        return self.inspect_volume(file)

    def inspect_volume(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read the header of a file that is one of a volume by its name."""
        place = mask_by_place(file.path) if self.params.layout == "auto" else ""
        if place:
            return Skipped(file.path, place)
        path = self.params.root / file.path
        try:
            facts = volume_header(path, file.size, labels=self.params.layout == "any")
            labels = label_values(data_file(path, facts), facts) if self.params.layout == "auto" else ()
        except DataError as error:
            return Skipped(file.path, str(error), error.retry)
        if len(labels):
            return Skipped(
                file.path, f"a label map: whole numbers from {min(0, *labels):g} on, {len(labels)} different ones"
            )
        return facts

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per file, in the order of their paths."""
        return chosen(self.volumes(headers), self.params)

    def volumes(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per file that is asked for, and the others with the reason."""
        wanted: list[tuple[SourceFile, Mapping[str, Any]]] = []
        for file, facts in headers:
            if reason := unwanted(file.path, self.params):
                yield Skipped(file.path, reason)
            else:
                wanted.append((file, facts))
        found = roles(self.params.root, [file.path for file, _ in wanted])
        for (file, facts), role in zip(wanted, found, strict=True):
            reason = role.reason if self.params.layout == "auto" else ""
            if not reason and self.params.orientation != "any" and facts["plane"] != "axial":
                reason = f"acquired in {facts['plane']} slices"
            if reason:
                yield Skipped(file.path, reason)
            else:
                own = self._patient(file.path)
                yield nifti_volume(file, facts, own or role.patient, "" if own else role.note)

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode a file. Unlike in DICOM, all of a volume is lost with its file."""
        path = data_file(self.params.root / volume.files[0].path, volume.details)
        return read_slices(path, volume.details, wanted, self.params.unit)

    def places(self, volume: Volume, index: Ints) -> NDArray[np.float64]:
        """Where slices lie, from the file's header."""
        return slice_places(volume.details, index)

    def facts(self, volume: Volume) -> VolumeFacts:
        """On which slices organs or lesions are, by the label maps that lie with the scan."""
        return VolumeFacts(findings=mask_findings(self.params.root, volume))

    def _patient(self, path: str) -> str:
        """The patient by the parameter, "" where it does not say."""
        found = re.search(self.params.patient, path) if self.params.patient else None
        return (found.group(1 if found.re.groups else 0) or path) if found else ""


def nifti_volume(file: SourceFile, facts: Mapping[str, Any], patient: str, note: str = "") -> Volume:
    """Return the volume that a file with these facts from its header holds, with a note on its patient."""
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
        notes=(*facts["notes"], *filter(None, [note])),
        details=facts,
    )
