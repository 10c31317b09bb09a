"""Applies the parameters that choose files and volumes, for data sets whose files say little about themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctkit.contracts import Skipped, Volume
from ctkit_datasets.filters import FolderParams, matches


def unwanted(path: str, params: FolderParams) -> str:
    """Return why the file at ``path`` below the root is not asked for, or ""."""
    if params.include and not matches(path, params.include):
        return "left out by the parameter include"
    if params.exclude and matches(path, params.exclude):
        return "left out by the parameter exclude"
    return ""


def chosen(volumes: Iterable[Volume | Skipped], params: FolderParams) -> Iterator[Volume | Skipped]:
    """Yield the first volumes that are large enough, the files of the others with the reason, and what is skipped."""
    patients: set[str] = set()
    count = 0
    for volume in volumes:
        if isinstance(volume, Skipped):
            yield volume
            continue
        if len(volume) < params.min_slices:
            reason = f"a volume of fewer than {params.min_slices} slices"
        elif params.max_patients and len(patients | {volume.patient}) > params.max_patients:
            reason = f"beyond the first {params.max_patients} patients"
        elif params.max_volumes and count == params.max_volumes:
            reason = f"beyond the first {params.max_volumes} volumes"
        else:
            patients.add(volume.patient)
            count += 1
            yield volume
            continue
        yield from (Skipped(file.path, reason) for file in volume.files)
