"""Parameters that choose what of a data set is used, and what they choose; how a volume is read they never change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ctkit.contracts import InputPath, Params, Skipped, Volume
from ctkit_datasets.file_kinds import other_kind

LARGEST = 1 << 32  #: bytes of a volume as its file stores it, or at 16 bits a voxel; a worker takes some times as much
MOST_PIXELS = 4096 * 4096  #: of one slice; the largest CT matrix there is
Unit = Literal["auto", "HU", "arbitrary"]  #: of values, as a data set is told it

_ALWAYS = frozenset({"root", "recipe", "max_volumes", "max_patients"})

#: By its plain name, the values of ImageType that mark what is no slice through the body. The first ones are the
#: standard's (PS3.3 sections C.7.6.1.1.2 and C.8.2.1.1.1), the rest are what scanners write.
_IMAGE_TYPES = {
    "localiser": ("LOCALIZER", "SCOUT", "SURVIEW", "REF_SURVIEW", "TOPOGRAM"),
    "dose page": ("DOSE_INFO",),
    "page of text": ("PATIENT_INFO", "RESULTS"),
    "screenshot": ("SCREEN SAVE", "SCREENSHOT"),
    "reformat": ("REFORMATTED", "MPR", "CSA MPR", "CT_SOM5 MPR", "CPR", "CURVED"),
    "projection": ("PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "CSA MIP"),
    "rendering": ("VRT", "VOLREN"),
}
NOT_SLICES = {value: name for name, values in _IMAGE_TYPES.items() for value in values}


def _choosing(default: Any, description: str, **limits: Any) -> Any:
    """A parameter that only chooses among volumes, whose files and slices are in their addresses anyway."""
    return Field(default, description=description, json_schema_extra={"address": False}, **limits)


class FolderParams(Params):
    """Parameters of a data set that lies in a folder."""

    root: InputPath = Field(description="folder of the data set")
    include: tuple[str, ...] = _choosing(
        (), "only files whose path below root matches one of these patterns; * also matches /"
    )
    exclude: tuple[str, ...] = _choosing(
        (), "no files whose path below root matches one of these patterns; * also matches /"
    )
    min_slices: PositiveInt = _choosing(3, "skip volumes with fewer slices")
    max_volumes: PositiveInt | None = _choosing(None, "use only this many volumes, for trying out")
    max_patients: PositiveInt | None = _choosing(None, "use only this many patients, for trying out")

    @field_validator("root")
    @classmethod
    def _is_folder(cls, root: Path) -> Path:
        if not root.is_dir():
            kind = other_kind(root, "other")
            raise ValueError(f"must be a folder, but is a file: {root}" + (f"; it is {kind}" if kind else ""))
        return root


class SeriesParams(FolderParams):
    """Parameters of a data set that consists of DICOM series."""

    unit: Unit = Field(
        "auto",
        description="unit of the values. auto: HU where the header of a CT says so, or leaves it open and its series "
        "holds values as CT does; else arbitrary",
    )
    modality: tuple[str, ...] = _choosing(("CT",), "modalities to use", min_length=1)
    image_type: tuple[str, ...] = _choosing((), 'values that ImageType must contain, such as "ORIGINAL"')
    not_image_type: tuple[str, ...] = _choosing(
        tuple(NOT_SLICES), "values that ImageType must not contain: localisers, reformats, pages of text"
    )
    body_part: tuple[str, ...] = _choosing((), 'patterns that BodyPartExamined must match, such as "CHEST*"')
    kernel: tuple[str, ...] = _choosing((), 'patterns that ConvolutionKernel must match, such as "B30*"')
    thickness: tuple[float, float] | None = _choosing(None, "smallest and largest slice thickness, mm")
    orientation: Literal["axial", "coronal", "sagittal", "any"] = _choosing(
        "axial", "planes to use, by the axis nearest to their normal"
    )
    same_scan: Literal["all", "largest"] = _choosing(
        "all", "of several reconstructions or copies of one scan, use all or the one with the most slices"
    )

    @field_validator("thickness")
    @classmethod
    def _is_range(cls, thickness: tuple[float, float] | None) -> tuple[float, float] | None:
        if thickness and not 0 <= thickness[0] <= thickness[1]:
            raise ValueError(f"must be the smallest and the largest thickness in mm, but is {list(thickness)}")
        return thickness


class RecipeParams(SeriesParams):
    """Parameters of a data set that the paper's scripts read in their own way."""

    recipe: Literal["standard", "published"] = Field(
        "standard", description="published: files, order, padding, rescaling and groups as in the paper's scripts"
    )

    @model_validator(mode="after")
    def _published_has_no_filters(self) -> RecipeParams:
        fields = type(self).model_fields.items()
        meant = [name for name, field in fields if name not in _ALWAYS and getattr(self, name) != field.default]
        if self.recipe == "published" and meant:
            raise ValueError(f'recipe = "published" uses the files of the paper: remove {", ".join(meant)}')
        return self


def matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether the whole text matches one of the shell patterns, in capitals or not."""
    return any(fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


def too_large(size: int) -> str:
    """Return why a volume of so many bytes is not read, or "": a header may claim anything."""
    return f"a volume of more than {LARGEST:,} bytes, which ctkit does not read" if size > LARGEST else ""


def unwanted(path: str, params: FolderParams) -> str:
    """Return why the file at ``path`` below the root is not asked for, or ""."""
    if params.include and not matches(path, params.include):
        return "skipped by the parameter include"
    if params.exclude and matches(path, params.exclude):
        return "skipped by the parameter exclude"
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
            reason = f"a volume of fewer than {params.min_slices} slices (parameter min_slices)"
        elif large := too_large(2 * len(volume) * volume.rows * volume.columns):
            reason = large
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
