"""LIDC-IDRI as The Cancer Imaging Archive delivers it (doi:10.7937/K9/TCIA.2015.LO9QL9SX).

``PATIENT/STUDY/SERIES/*.dcm``, with or without folders above; CT series lie beside radiographs and XML annotations.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Pixels, Skipped, SourceFile, Volume, VolumeFacts
from ctkit_datasets.dicom import SeriesDataset
from ctkit_datasets.dicom_geometry import Turn
from ctkit_datasets.dicom_pixels import ends_of, fill, read_blocks
from ctkit_datasets.dicom_slices import Encoding, Slice, SliceMaker, sources
from ctkit_datasets.filters import RecipeParams, chosen
from ctkit_datasets.lidc_findings import findings
from ctkit_datasets.packed_groups import PackedGroups

_LEVELS = 3  # PATIENT/STUDY/SERIES
_MORE_THAN = 10  # entries make a folder a series
_PADDING = -2000  # stored value
_MISSING_INTERCEPT = -1024  # HU
_NO_ORDER = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # what Imaging Data Commons calls a file


class LidcIdri(SeriesDataset[RecipeParams]):
    """The CT scans of LIDC-IDRI."""

    def check(self, device: str | None) -> Iterable[str]:
        """The published recipe goes by the names of files, which tell no order where they are random."""
        if self.params.recipe == "published":
            first = next((file for file in self.files() if file.path.endswith(".dcm")), None)
            if first and _NO_ORDER.fullmatch(PurePosixPath(first.path).stem):
                yield (
                    'recipe = "published" selects by file name, but these have the random names of Imaging Data '
                    'Commons; use recipe = "standard", or the files of The Cancer Imaging Archive'
                )

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Group into volumes: one series each, or one folder each as the paper's scripts had it."""
        if self.params.recipe == "standard":
            return super().arrange(headers)
        return self._arrange_published(headers)

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode slices to Hounsfield units."""
        (pixels,) = self._read(volume, wanted, whole=True)
        return pixels

    def read_blocks(self, volume: Volume, wanted: Ints | None = None) -> Iterator[Pixels]:
        """The same, few slices at a time."""
        return self._read(volume, wanted, whole=False)

    def _read(self, volume: Volume, wanted: Ints | None, *, whole: bool) -> Iterator[Pixels]:
        if self.params.recipe == "standard":
            return read_blocks(self.params.root, volume, wanted, whole=whole)
        return fill(self.params.root, volume, wanted, True, _to_published, whole=whole)

    def facts(self, volume: Volume) -> VolumeFacts:
        """Manufacturer and kernel, and on which slices a reader marked a nodule: from the XML, else segmentations."""
        return VolumeFacts(super().facts(volume).traits, findings(self.params.root, volume))

    def _arrange_published(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Make a volume of each series folder, slices in the order of file names and numbered through all folders."""
        maker = SliceMaker()
        folders: PackedGroups[tuple[str, ...], Slice] = PackedGroups()
        for file, facts in headers:
            folders.add(PurePosixPath(file.path).parts[:-1], maker.slices(file, facts)[:1])
        params = self.params.model_copy(update={"min_slices": 1})
        yield from chosen(_published_volumes(params.root, folders), params)


def _published_volumes(root: Path, folders: PackedGroups[tuple[str, ...], Slice]) -> Iterator[Volume | Skipped]:
    """Yield the paper's volumes, and the files that its scripts do not take.

    A slice's place in any group is the string order of ``PATIENT_{number}``, so that 10 comes before 2. Numbers begin
    with 0: what is known of the published selection (see the tests) fits no other start.
    """
    number = 0
    for parts in sorted(folders):
        slices = sorted(folders.take(parts), key=lambda slice_: slice_.file.path)
        entries = _entries(root.joinpath(*parts))
        matrices: dict[tuple[int, int], list[tuple[int, Slice]]] = defaultdict(list)
        for slice_ in slices:
            reason = _not_taken(parts, entries, slice_)
            if reason:
                yield Skipped(slice_.file.path, reason)
            else:
                matrices[slice_.encoding.rows, slice_.encoding.columns].append((number, slice_))
                number += 1
        for (rows, columns), numbered in matrices.items():
            patient = parts[-_LEVELS]
            down, across = numbered[0][1].spacing or (None, None)
            yield Volume(
                key="/".join(parts) + (f"/{rows}x{columns}" if len(matrices) > 1 else ""),
                patient=patient,
                rows=rows,
                columns=columns,
                spacing=(across, down, None),  # slices are in no spatial order
                order=tuple(f"{patient}_{number}" for number, _ in numbered),
                **sources([slice_ for _, slice_ in numbered], Turn()),
            )


def _entries(folder: Path) -> int:
    """Return how many files and folders there are in a folder."""
    try:
        return sum(1 for _ in folder.iterdir())
    except OSError:
        return 0


def _not_taken(parts: tuple[str, ...], entries: int, slice_: Slice) -> str:
    """Return why the paper's scripts do not take a file of the folder ``parts``, "" where they do."""
    if len(parts) < _LEVELS:
        return "not in a folder PATIENT/STUDY/SERIES"
    if not slice_.file.path.endswith(".dcm"):
        return "not named *.dcm"
    if entries <= _MORE_THAN:
        return f"in a folder of no more than {_MORE_THAN} entries"
    if slice_.encoding.samples != 1 or slice_.encoding.frames != 1 or slice_.encoding.bits not in (8, 16):
        return "not one slice of 8 or 16 bits"
    return ""


def _to_published(stored: NDArray[Any], encoding: Encoding, out: NDArray[np.int16]) -> tuple[float, float]:
    """Write what the paper's scripts make of stored values: 16 bits wrap, and -2000 is 0 before it is rescaled."""
    pixels = stored.astype(np.int16)
    pixels[pixels == _PADDING] = 0
    if encoding.slope != 1:
        pixels = (encoding.slope * pixels.astype(np.float64)).astype(np.int64).astype(np.int16)
    intercept = _MISSING_INTERCEPT if encoding.intercept is None else encoding.intercept
    np.add(pixels, np.int64(intercept).astype(np.int16), out=out)
    return ends_of(out, constant=True)
