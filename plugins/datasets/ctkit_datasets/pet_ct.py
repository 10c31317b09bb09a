"""FDG-PET-CT-Lesions (doi:10.7937/gkr0-xv29), as DICOM from The Cancer Imaging Archive or as its NIfTI tree.

As DICOM a study holds series of CT, PT and SEG, of which the CT is read; as NIfTI ``PATIENT/STUDY/CT.nii.gz`` is, which
lies beside PET, SUV, SEG and CTres, the CT resampled to the grid of the PET.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts import Ints, Pixels, Skipped, SourceFile, Volume, VolumeFacts
from ctkit.errors import DataError
from ctkit_datasets.dicom import SeriesDataset
from ctkit_datasets.dicom_pixels import read_blocks
from ctkit_datasets.filters import RecipeParams, chosen, unwanted
from ctkit_datasets.nifti import SUFFIXES, nifti_volume
from ctkit_datasets.nifti_files import header_facts, read_slices, slice_places, stored_voxels
from ctkit_datasets.nifti_masks import mask_findings

CT, RESAMPLED_CT = "CT.nii.gz", "CTres.nii.gz"
_Header: TypeAlias = tuple[SourceFile, Mapping[str, Any]]


class PetCtParams(RecipeParams):
    """Parameters of FDG-PET-CT-Lesions."""

    resampled: bool = Field(
        False, description=f"of a NIfTI tree, read {RESAMPLED_CT}, the CT on the grid of the PET, instead of {CT}"
    )


class PetCt(SeriesDataset[PetCtParams]):
    """The CT scans of FDG-PET-CT-Lesions."""

    version = 2

    @property
    def _published(self) -> bool:
        return self.params.recipe == "published"

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """What the header of one file says; that of a NIfTI file under ``nifti``."""
        if not file.path.endswith(SUFFIXES):
            return super().inspect(file)
        name = RESAMPLED_CT if self.params.resampled else CT
        *folders, found = file.path.split("/")
        if found != name:
            return Skipped(file.path, f"not {name}")
        if len(folders) < 2:
            return Skipped(file.path, f"not in PATIENT/STUDY/{name}")
        try:
            return {"nifti": header_facts(self.params.root / file.path, file.size)}
        except DataError as error:
            return Skipped(file.path, str(error), error.retry)

    def arrange(self, headers: Iterable[_Header]) -> Iterator[Volume | Skipped]:
        """Make a volume of each CT series, or of each NIfTI file, which alone the published recipe knows."""
        params = self.params.model_copy(update={"min_slices": 1}) if self._published else self.params
        trees: list[_Header] = []
        left: list[Skipped] = []
        yield from super().arrange(self._series(headers, trees, left))
        yield from chosen(_tree_volumes(trees, self._published), params)
        yield from left

    def _series(self, headers: Iterable[_Header], trees: list[_Header], left: list[Skipped]) -> Iterator[_Header]:
        """Yield the headers of DICOM files; put those of NIfTI files into ``trees``, what is not used into ``left``."""
        for file, facts in headers:
            if "nifti" not in facts and not self._published:
                yield file, facts
            elif reason := unwanted(file.path, self.params):
                left.append(Skipped(file.path, reason))
            elif "nifti" in facts:
                trees.append((file, facts["nifti"]))
            else:
                left.append(Skipped(file.path, "DICOM, which the published recipe does not use"))

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode slices to Hounsfield units if nothing else is said, or as the paper's scripts write them."""
        path = self.params.root / volume.files[0].path
        if not path.name.endswith(SUFFIXES):
            return super().read(volume, wanted)
        if self._published:
            return _read_published(path, volume, wanted)
        return read_slices(path, volume.details, wanted, "HU" if self.params.unit == "auto" else self.params.unit)

    def read_blocks(self, volume: Volume, wanted: Ints | None = None) -> Iterator[Pixels]:
        """The same: of DICOM few slices at a time, of NIfTI all."""
        if volume.files[0].path.endswith(SUFFIXES):
            return iter((self.read(volume, wanted),))
        return read_blocks(self.params.root, volume, wanted)

    def places(self, volume: Volume, index: Ints) -> NDArray[np.float64] | None:
        """Where slices lie; the published recipe takes those of NIfTI files as they are stored."""
        if not volume.files[0].path.endswith(SUFFIXES):
            return super().places(volume, index)
        return None if self._published else slice_places(volume.details, index)

    def facts(self, volume: Volume) -> VolumeFacts:
        """On which slices lesions are, by the segmentation of a NIfTI tree; of DICOM, manufacturer and kernel."""
        if not volume.files[0].path.endswith(SUFFIXES):
            return super().facts(volume)
        if self._published:  # takes slices in the file's own order
            return VolumeFacts()
        return VolumeFacts(findings=mask_findings(self.params.root, volume))


def _tree_volumes(headers: Iterable[_Header], published: bool) -> Iterator[Volume]:
    """Yield a volume per accepted file, sorted by patient and study.

    ``published`` is the way of the paper's scripts: volumes get a running number, and slices, which are the file's
    third axis as it is, are ordered by the string ``PATIENT_{running number}_{slice}``.
    """
    for number, (file, facts) in enumerate(sorted(headers, key=lambda header: header[0].path.split("/"))):
        patient = file.path.split("/")[-3]
        volume = nifti_volume(file, facts, patient)
        if published:
            columns, rows, count = facts["file_shape"]
            slices = tuple((0, index) for index in range(count))
            order = tuple(f"{patient}_{number}_{index}" for index in range(count))
            volume = replace(volume, slices=slices, rows=rows, columns=columns, order=order)
        yield volume


def _read_published(path: Path, volume: Volume, wanted: Ints | None) -> Pixels:
    """Return slices of the transposed voxel array as 8 bit, minimum..maximum to 0..255 with 1e-5 added to the range.

    Stretched once more from minimum to maximum, as evidence is, such a slice stays as it is.
    """
    stored, notes = stored_voxels(path, volume.details)
    slices = stored.transpose(2, 1, 0)
    slope, intercept = volume.details["scale"] or (1.0, 0.0)
    index = np.arange(len(slices)) if wanted is None else np.asarray(wanted, np.int64)
    finite = np.array([np.isfinite(slices[number]).all() for number in index], np.bool_)
    values = np.empty((np.count_nonzero(finite), volume.rows, volume.columns), np.uint8)
    for target, number in zip(values, index[finite], strict=True):
        plane = slices[number].astype(np.float64) * slope + intercept
        low = plane.min()
        target[...] = np.rint((plane - low) / (plane.max() - low + 1e-5) * 255)
    skipped = tuple((int(number), "it has NaN values") for number in index[~finite])
    return Pixels(values, index[finite], "arbitrary", skipped, notes=notes)
