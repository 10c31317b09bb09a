"""FDG-PET-CT-Lesions as NIfTI: the tree ``PATIENT/STUDY/CT.nii.gz``, its CT in Hounsfield units.

Beside each CT lie PET, SUV, SEG and CTres, which is the CT resampled to the grid of the PET.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ctkit.contracts import Ints, Pixels, Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit_datasets.filters import Unit
from ctkit_datasets.nifti import nifti_volume
from ctkit_datasets.nifti_files import header_facts, read_slices, stored_voxels

CT = "CT.nii.gz"
RESAMPLED_CT = "CTres.nii.gz"


def inspect_tree_file(root: Path, file: SourceFile, name: str = CT) -> Mapping[str, Any] | Skipped:
    """Return facts from the header of a ``PATIENT/STUDY/name`` file, or why another file is left out."""
    *folders, found = file.path.split("/")
    if found != name:
        return Skipped(file.path, f"not {name}")
    if len(folders) < 2:
        return Skipped(file.path, f"not in PATIENT/STUDY/{name}")
    try:
        return header_facts(root / file.path, file.size)
    except DataError as error:
        return Skipped(file.path, str(error), error.retry)


def tree_volumes(headers: Iterable[tuple[SourceFile, Mapping[str, Any]]], published: bool) -> Iterator[Volume]:
    """Yield a volume per accepted file, sorted by patient and study.

    ``published`` is the way of the paper's scripts: volumes get a running number, and slices, which are the file's
    third axis as it is, are ordered by the string ``PATIENT_{running number}_{slice}``.
    """
    for number, (file, facts) in enumerate(sorted(headers, key=lambda header: header[0].path.split("/"))):
        patient = file.path.split("/")[-3]
        volume = nifti_volume(file, facts, patient)
        yield _as_published(volume, number) if published else volume


def _as_published(volume: Volume, number: int) -> Volume:
    columns, rows, count = volume.details["file_shape"]
    return replace(
        volume,
        slices=tuple((0, index) for index in range(count)),
        rows=rows,
        columns=columns,
        order=tuple(f"{volume.patient}_{number}_{index}" for index in range(count)),
    )


def read_tree_volume(root: Path, volume: Volume, wanted: Ints | None, published: bool, unit: Unit = "auto") -> Pixels:
    """Decode a volume's slices, in Hounsfield units if nothing else is said, or as the paper's scripts write them."""
    path = root / volume.files[0].path
    if published:
        return _read_published(path, volume, wanted)
    return read_slices(path, volume.details, wanted, "HU" if unit == "auto" else unit)


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
