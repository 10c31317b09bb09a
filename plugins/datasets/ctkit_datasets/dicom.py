"""Any folder tree of DICOM files, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Dataset, Ints, Pixels, Skipped, SourceFile, Volume, VolumeFacts
from ctkit_datasets.dicom_header import inspect_file, traits
from ctkit_datasets.dicom_pixels import read_volume
from ctkit_datasets.dicom_places import slice_places
from ctkit_datasets.dicom_series import arrange_series
from ctkit_datasets.file_kinds import other_kind
from ctkit_datasets.filters import SeriesParams
from ctkit_datasets.source_files import walk

P = TypeVar("P", bound=SeriesParams)


class SeriesDataset(Dataset[P]):
    """Base of data sets that consist of DICOM series: one volume a series, its slices ascending along their normal."""

    dicom = True
    version = 2

    def files(self) -> Iterator[SourceFile]:
        """Every file below the root."""
        return walk(self.params.root)

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """What the header of one file says."""
        found = inspect_file(self.params.root, file)
        if isinstance(found, Skipped) and not found.retry:
            return Skipped(file.path, other_kind(self.params.root / file.path, "dicom") or found.reason)
        return found

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Group by series, plane, matrix and pass, and order by position along the normal."""
        return arrange_series(headers, self.params)

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode slices to Hounsfield units, upright."""
        return read_volume(self.params.root, volume, wanted)

    def places(self, volume: Volume, index: Ints) -> NDArray[np.float64] | None:
        """Where slices lie, from the headers of their files."""
        return slice_places(self.params.root, volume, index)

    def facts(self, volume: Volume) -> VolumeFacts:
        """Manufacturer and convolution kernel, from the header of the first file."""
        return VolumeFacts(traits(self.params.root, volume))


class Dicom(SeriesDataset[SeriesParams]):
    """Any folder tree of DICOM files."""
