"""Data set ``metaimage``: any folder tree of MetaImage and NRRD files, one volume each."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit_datasets.file_kinds import other_kind
from ctkit_datasets.metaimage_files import METAIMAGE, NRRD
from ctkit_datasets.nifti import Nifti
from ctkit_datasets.nifti_files import check_size
from ctkit_datasets.nifti_layouts import stem

_NO_HEADER = f"not a header by its name ({', '.join((*METAIMAGE, *NRRD))}), nor the voxels of a used volume"


class MetaImage(Nifti):
    """Axial slices from MetaImage (.mhd, .mha) and NRRD (.nrrd, .nhdr), as data set ``nifti`` reads them from NIfTI.

    The file of the voxels, where it is another one, must lie in the folder of its header. Lists of files are left out.
    """

    version = 2

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read one header; what is none may hold the voxels of one."""
        if not file.path.lower().endswith((*METAIMAGE, *NRRD)):
            other = other_kind(self.params.root / file.path, "metaimage")
            return {"other": other}
        return self.inspect_volume(file)

    def volumes(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per header that is asked for and whose voxels are there, and the others with the reason."""
        every = list(headers)
        others = {file.path: file for file, facts in every if "other" in facts}
        found = list(super().volumes((file, facts) for file, facts in every if "other" not in facts))
        owners: dict[str, str] = {}
        for one in found:
            if isinstance(one, Volume):
                path = _data(one)
                if path not in owners or stem(one.key) == path.rpartition("/")[2].rpartition(".")[0]:
                    owners[path] = one.key
        for one in found:
            yield one if isinstance(one, Skipped) else _whole(one, owners, others)
        for file, facts in every:
            if file.path in others:
                yield Skipped(file.path, facts["other"] or _NO_HEADER)


def _data(volume: Volume) -> str:
    """Path below the root of the file that holds the voxels of a volume."""
    name, header = volume.details["data"], volume.key
    return posixpath.normpath(posixpath.join(posixpath.dirname(header), name)) if name else header


def _whole(volume: Volume, owners: Mapping[str, str], others: dict[str, SourceFile]) -> Volume | Skipped:
    """Return the volume with the file of its voxels, which is taken from ``others``, or why it cannot be used."""
    (header,) = volume.files
    path = _data(volume)
    if path == header.path:
        return volume
    if owners[path] != header.path:
        return Skipped(header.path, "another header names the same file of voxels")
    if path not in others:
        return Skipped(header.path, "its voxels are missing: there is no such file")
    try:
        check_size(volume.details, others[path].size)
    except DataError as error:
        return Skipped(header.path, str(error))
    return replace(volume, files=(header, others.pop(path)))
