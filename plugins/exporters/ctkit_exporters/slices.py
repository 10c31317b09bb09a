"""Export: the slices that an arm keeps as files for other people's training code, or a list of their sources.

The command's help lists the formats. In the list, a tab and the number in the file follow a file of several slices;
beside NIfTI files, ``slices.csv`` says where each slice comes from and lay. Lists, and what is in DICOM files, name
patients where the source does. A hard link *is* the source file: who wants to change it copies it first.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctkit import rendering
from ctkit.contracts import Dataset, Ints, Pixels, SliceFormat, Volume, refuse_without_sources
from ctkit.errors import DataError, RequestError
from ctkit.files import link, write_bytes, write_csv, write_json, writing

if TYPE_CHECKING:
    from ctkit import RevisitedArm

Levels = str | tuple[float, float]
Write = Callable[[Levels, Dataset[Any], "Kept"], int]
_MARK = ".export.json"


@dataclass(frozen=True)
class Kept:
    """One volume's kept slices, and where they go."""

    volume: Volume
    name: str  #: digest
    index: Ints  #: (n,) numbers in the volume, ascending
    span: tuple[float, float]  #: lowest and highest value of all the volume's slices
    folder: Path

    def file(self, number: int, suffix: str) -> Path:
        """Where the slice with that number goes, in formats with a file for each."""
        return self.folder / self.name / f"{self.name}-{number:05d}{suffix}"

    @property
    def nifti(self) -> Path:
        """Where the slices go together."""
        return self.folder / f"{self.name}.nii.gz"


def export_slices(run: RevisitedArm, form: SliceFormat, out: Path) -> int:
    """Write or list the kept slices of an arm into the folder ``out``; return how many.

    What a stopped export has written whole is not written again. Raises ``RequestError`` where the data set has nothing
    of that format or the folder holds something else, and ``DataError`` where slices cannot be read any more.
    """
    refuse_without_sources(run.dataset, run.dataset_name, form)
    if form == "dicom" and any(len(volume.files) != len(volume) for volume in run.volumes):
        raise RequestError("some source files have more than one slice, so they cannot be linked; use png or nifti")
    _claim(run, form, out)
    kept = partial(_kept, run, out)
    if form == "list":
        _write_list(run, kept(), out / "slices.txt")
    elif form == "dicom":
        _link(run, kept())
    else:
        _write_images(run, kept(), {"png": _write_pngs, "nifti": _write_nifti}[form])
    if form == "nifti":
        rows = (row for one in kept() for row in _rows(run.dataset, one))
        write_csv(out / "slices.csv", ("file", "position", "volume", "index", "source", "z"), rows)
    return int(run.selection.kept.sum())


def _kept(run: RevisitedArm, out: Path) -> Iterator[Kept]:
    """Every volume that the arm keeps something of."""
    numbers = np.flatnonzero(run.selection.kept)
    for of_volume in np.split(numbers, np.flatnonzero(np.diff(run.volume[numbers])) + 1):
        if len(of_volume):
            number = int(run.volume[of_volume[0]])
            yield Kept(run.volumes[number], run.pseudonym(number), run.index[of_volume], run.span(number), out)


def _rows(dataset: Dataset[Any], one: Kept) -> Iterator[tuple[Any, ...]]:
    """Yield for each slice of a NIfTI file which one it is, its source file, and its first pixel's height in mm."""
    places = dataset.places(one.volume, one.index)
    for at, index in enumerate(one.index.tolist()):
        source = one.volume.source(index) if one.volume.files else None
        yield one.nifti.name, at, one.name, index, source, None if places is None else round(float(places[at, 2, 2]), 4)


def _claim(run: RevisitedArm, form: SliceFormat, out: Path) -> None:
    """Mark an empty folder as this export's; refuse one that holds anything else."""
    claim = {"format": form, "selection": run.address, "intensity": run.intensity}
    mark = out / _MARK
    if mark.exists():
        if json.loads(mark.read_text(encoding="utf-8")) != claim:
            raise RequestError(f"{out} has the export of another selection or format; give another folder")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out} is not an empty folder; give another one")
    else:
        write_json(mark, claim)


# --- sources ------------------------------------------------------------------------------------------------------


def _write_list(run: RevisitedArm, kept: Iterable[Kept], path: Path) -> None:
    root = run.dataset.root
    assert root is not None
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
        for one in kept:
            single = len(one.volume.files) == len(one.volume)
            for number in one.index.tolist():
                source = str(root / one.volume.source(number))
                if set(source) & set("\n\r\t"):
                    raise RequestError(
                        "the name of a source file has a line break or tab, which a list cannot contain; use another"
                        " format"
                    )
                file.write(f"{source}\n" if single else f"{source}\t{one.volume.slices[number][1]}\n")


def _link(run: RevisitedArm, kept: Iterable[Kept]) -> None:
    root = run.dataset.root
    assert root is not None
    for one in kept:
        for number in one.index.tolist():
            target = one.file(number, ".dcm")
            if not target.exists():
                link(root / one.volume.source(number), target)


# --- images -------------------------------------------------------------------------------------------------------


def _write_images(run: RevisitedArm, kept: Iterable[Kept], write: Write) -> None:
    """Decode and write in worker processes, volume by volume."""
    lost, total = 0, len(np.unique(run.volume[run.selection.kept]))
    outcomes = run.each_volume("export", partial(write, run.levels), kept, total=total, name=lambda one: one.name)
    for one, unread in outcomes:
        lost += len(one.index) if unread is None else unread
    if lost:
        raise DataError(f"slices that could not be read a second time: {lost}; were files changed?")


def _write_pngs(levels: Levels, dataset: Dataset[Any], one: Kept) -> int:
    """Write the slices that are not there yet; return how many cannot be read. Runs in a worker process."""
    from PIL import Image

    missing = np.array([number for number in one.index.tolist() if not one.file(number, ".png").exists()], np.int64)
    if not missing.size:
        return 0
    pixels = dataset.read(one.volume, missing)
    grey = rendering.full_matrix(pixels.values, pixels.unit, levels, one.span)
    for number, image in zip(pixels.index.tolist(), grey, strict=True):
        data = io.BytesIO()
        Image.fromarray(image).save(data, "PNG")
        write_bytes(one.file(number, ".png"), data.getvalue())
    return len(missing) - len(pixels.index)


def _write_nifti(_: Levels, dataset: Dataset[Any], one: Kept) -> int:
    """Write a volume's slices, unless they are there; return how many cannot be read. Runs in a worker process."""
    if one.nifti.exists():
        return 0
    pixels = dataset.read(one.volume, one.index)
    if len(pixels.index) == len(one.index):
        at = affine(one.volume, pixels.index, dataset.places(one.volume, pixels.index))
        write_bytes(one.nifti, gzip.compress(_nifti(pixels, at), mtime=0))
    return len(one.index) - len(pixels.index)


def _nifti(pixels: Pixels, at: NDArray[np.float64]) -> bytes:
    """Slices as a NIfTI file with an affine (4, 4): columns run to the patient's left, rows to the back."""
    import nibabel

    values: NDArray[Any] = pixels.values.transpose(2, 1, 0)  # (columns, rows, slices)
    make: Any = nibabel.Nifti1Image  # nibabel types only part of itself
    image = make(values, at)
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


def affine(volume: Volume, index: Ints, places: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """Affine (4, 4) in mm, to the patient's right, front and head, of the kept slices ``index`` of a volume.

    With their ``places``, as ``Dataset.places`` gives them, the first and the last slice lie where they lay, and those
    between evenly from one to the other, as NIfTI knows no other way. Without, the first pixel is the origin, the
    distance of slices is the median of that between neighbours, and an unknown spacing is 1 mm.
    """
    x, y, z = (1.0 if step is None else step for step in volume.spacing)
    apart = float(np.median(np.diff(index))) if len(index) > 1 else 1.0
    matrix = np.diag([-x, -y, z * apart, 1.0])
    if places is None:
        return matrix
    across, down, first = places[0].T
    normal = np.cross(across, down)  # to the head, where slices are axial
    up = (places[-1, :, 2] - first) / (len(index) - 1) if len(index) > 1 else normal / np.linalg.norm(normal) * z
    found = np.column_stack([across, down, up, first])
    if not np.linalg.det(found[:, :3]):  # all in one place
        return matrix
    matrix[:3] = found
    return matrix
