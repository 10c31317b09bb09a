"""FDG-PET-CT-Lesions (doi:10.7937/gkr0-xv29), as DICOM from The Cancer Imaging Archive or as its NIfTI tree.

As DICOM a study holds series of CT, PT and SEG, of which the CT is read; as NIfTI ``PATIENT/STUDY/CT.nii.gz`` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts import Ints, Pixels, Skipped, SourceFile, Volume, VolumeFacts
from ctkit_datasets.dicom import SeriesDataset
from ctkit_datasets.filters import RecipeParams, chosen, unwanted
from ctkit_datasets.nifti_files import slice_places
from ctkit_datasets.nifti_masks import mask_findings
from ctkit_datasets.pet_ct_nifti import CT, RESAMPLED_CT, inspect_tree_file, read_tree_volume, tree_volumes

_NIFTI = (".nii", ".nii.gz")
_Header: TypeAlias = tuple[SourceFile, Mapping[str, Any]]


class PetCtParams(RecipeParams):
    """Parameters of FDG-PET-CT-Lesions."""

    resampled: bool = Field(
        False, description=f"of a NIfTI tree, read {RESAMPLED_CT}, the CT on the grid of the PET, instead of {CT}"
    )


class PetCt(SeriesDataset[PetCtParams]):
    """The CT scans of FDG-PET-CT-Lesions."""

    version = 2

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """What the header of one file says; that of a NIfTI file under ``nifti``."""
        if not file.path.endswith(_NIFTI):
            return super().inspect(file)
        found = inspect_tree_file(self.params.root, file, RESAMPLED_CT if self.params.resampled else CT)
        return found if isinstance(found, Skipped) else {"nifti": found}

    def arrange(self, headers: Iterable[_Header]) -> Iterator[Volume | Skipped]:
        """Make a volume of each CT series, or of each NIfTI file, which alone the published recipe knows."""
        published = self.params.recipe == "published"
        params = self.params.model_copy(update={"min_slices": 1}) if published else self.params
        trees: list[_Header] = []
        left: list[Skipped] = []
        yield from super().arrange(self._series(headers, trees, left))
        yield from chosen(tree_volumes(trees, published), params)
        yield from left

    def _series(self, headers: Iterable[_Header], trees: list[_Header], left: list[Skipped]) -> Iterator[_Header]:
        """Yield the headers of DICOM files; put those of NIfTI files into ``trees``, what is not used into ``left``."""
        for file, facts in headers:
            if "nifti" not in facts and self.params.recipe == "standard":
                yield file, facts
            elif reason := unwanted(file.path, self.params):
                left.append(Skipped(file.path, reason))
            elif "nifti" in facts:
                trees.append((file, facts["nifti"]))
            else:
                left.append(Skipped(file.path, "DICOM, which the published recipe does not use"))

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode slices to Hounsfield units."""
        if not volume.files[0].path.endswith(_NIFTI):
            return super().read(volume, wanted)
        return read_tree_volume(self.params.root, volume, wanted, self.params.recipe == "published", self.params.unit)

    def places(self, volume: Volume, index: Ints) -> NDArray[np.float64] | None:
        """Where slices lie; the published recipe takes those of NIfTI files as they are stored."""
        if not volume.files[0].path.endswith(_NIFTI):
            return super().places(volume, index)
        return None if self.params.recipe == "published" else slice_places(volume.details, index)

    def facts(self, volume: Volume) -> VolumeFacts:
        """On which slices lesions are, by the segmentation of a NIfTI tree; of DICOM, manufacturer and kernel."""
        if not volume.files[0].path.endswith(_NIFTI):
            return super().facts(volume)
        published = self.params.recipe == "published"  # takes slices in the file's own order
        return VolumeFacts(findings={} if published else mask_findings(self.params.root, volume))
