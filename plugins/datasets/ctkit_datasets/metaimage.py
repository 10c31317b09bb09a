"""Data set ``metaimage``: any folder tree of MetaImage and NRRD files, one volume each."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit_datasets.metaimage_files import METAIMAGE, NRRD
from ctkit_datasets.nifti import Nifti
from ctkit_datasets.nifti_files import check_size

_NO_HEADER = f"no header by its name ({', '.join((*METAIMAGE, *NRRD))}), nor the voxels of a volume that is used"


class MetaImage(Nifti):
    """Axial slices from MetaImage (.mhd, .mha) and NRRD (.nrrd, .nhdr), as data set ``nifti`` reads them from NIfTI.

    The file of the voxels, where it is another one, must lie in the folder of its header. Lists of files are left out.
    """

    version = 1

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read one header; what is none may hold the voxels of one."""
        if not file.path.lower().endswith((*METAIMAGE, *NRRD)):
            return {}
        return self.inspect_volume(file)

    def volumes(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per header that is asked for and whose voxels are there, and the others with the reason."""
        others: dict[str, SourceFile] = {}

        def with_facts() -> Iterator[tuple[SourceFile, Mapping[str, Any]]]:
            for file, facts in headers:
                if facts:
                    yield file, facts
                else:
                    others[file.path] = file

        for found in super().volumes(with_facts()):
            yield found if isinstance(found, Skipped) else _whole(found, others)
        yield from (Skipped(path, _NO_HEADER) for path in others)


def _data(header: str, facts: Mapping[str, Any]) -> str:
    """Path below the root of the file that holds the voxels of a header."""
    folder = posixpath.dirname(header)
    return posixpath.normpath(posixpath.join(folder, facts["data"])) if facts["data"] else header


def _whole(volume: Volume, others: dict[str, SourceFile]) -> Volume | Skipped:
    """Return the volume with the file of its voxels, which is taken from ``others``, or why it cannot be used."""
    (header,) = volume.files
    path = _data(header.path, volume.details)
    if path == header.path:
        return volume
    data = others.get(path)
    if data is None:
        return Skipped(header.path, "its voxels are missing: no such file, or one of another header")
    try:
        check_size(volume.details, data.size)
    except DataError as error:
        return Skipped(header.path, str(error))
    del others[path]
    return replace(volume, files=(header, data))
