"""Any folder tree of DICOM files, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Dataset, Ints, Pixels, Skipped, SourceFile, Volume, VolumeFacts
from ctkit_datasets.dicom_geometry import Turn
from ctkit_datasets.dicom_header import inspect_file, traits
from ctkit_datasets.dicom_pixels import read_blocks, read_volume
from ctkit_datasets.dicom_series import arrange_series
from ctkit_datasets.file_kinds import other_kind
from ctkit_datasets.filters import SeriesParams
from ctkit_datasets.source_files import walk

_TO_RIGHT_AND_FRONT = np.array([[-1.0], [-1.0], [1.0]])  # DICOM counts to the left and to the back
P = TypeVar("P", bound=SeriesParams)


class SeriesDataset(Dataset[P]):
    """Base of data sets that consist of DICOM series: one volume a series, its slices ascending along their normal."""

    dicom = True
    version = 3

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

    def read_blocks(self, volume: Volume, wanted: Ints | None = None) -> Iterator[Pixels]:
        """The same, few slices at a time; all at once for a subclass that reads in another way."""
        if type(self).read is SeriesDataset.read:
            return read_blocks(self.params.root, volume, wanted)
        return super().read_blocks(volume, wanted)

    def places(self, volume: Volume, index: Ints) -> NDArray[np.float64] | None:
        """Where slices lie, from the headers of their files, None where one does not tell."""
        turn, shape = Turn(**volume.details["turn"]), (volume.rows, volume.columns)
        found: dict[int, Sequence[Mapping[str, Any]]] = {}
        places = np.empty((len(index), 3, 3))
        for place, number in zip(places, index.tolist(), strict=True):
            file, frame = volume.slices[number]
            if file not in found:
                facts = inspect_file(self.params.root, volume.files[file])
                found[file] = () if isinstance(facts, Skipped) else facts["slices"]
            header = found[file][frame] if frame < len(found[file]) else {}
            if not (header.get("position") and header.get("orientation") and header.get("spacing")):
                return None
            place[:] = turn.place(header["position"], header["orientation"], header["spacing"], shape)
        return np.asarray(places * _TO_RIGHT_AND_FRONT)

    def facts(self, volume: Volume) -> VolumeFacts:
        """Manufacturer and convolution kernel, from the header of the first file."""
        return VolumeFacts(traits(self.params.root, volume))


class Dicom(SeriesDataset[SeriesParams]):
    """Any folder tree of DICOM files."""
