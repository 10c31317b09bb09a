"""Parameters that choose what of a data set is used. They change which volumes there are, never how one is read."""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from ctkit.contracts import InputPath, Params

_ALWAYS = frozenset({"root", "recipe", "max_volumes", "max_patients"})
_CHOOSES: dict[str, Any] = {"address": False}  # a volume's files and slices are in its address anyway

#: Values of ImageType that mark what is no slice through the body, with its plain name. The first ones are the
#: standard's (PS3.3 sections C.7.6.1.1.2 and C.8.2.1.1.1), the rest are what scanners write.
NOT_SLICES = {
    "LOCALIZER": "localiser",
    "SCOUT": "localiser",
    "SURVIEW": "localiser",
    "REF_SURVIEW": "localiser",
    "TOPOGRAM": "localiser",
    "DOSE_INFO": "dose page",
    "PATIENT_INFO": "page of text",
    "RESULTS": "page of text",
    "SCREEN SAVE": "screenshot",
    "SCREENSHOT": "screenshot",
    "REFORMATTED": "reformat",
    "MPR": "reformat",
    "CSA MPR": "reformat",
    "CT_SOM5 MPR": "reformat",
    "CPR": "reformat",
    "CURVED": "reformat",
    "PROJECTION IMAGE": "projection",
    "MIP": "projection",
    "MAX_IP": "projection",
    "MIN_IP": "projection",
    "CSA MIP": "projection",
    "VRT": "rendering",
    "VOLREN": "rendering",
}


class FolderParams(Params):
    """Parameters of a data set that lies in a folder."""

    root: InputPath = Field(description="folder that holds the data set")
    include: tuple[str, ...] = Field(
        (),
        description="only files whose path below root matches one of these patterns; * also matches /",
        json_schema_extra=_CHOOSES,
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="no files whose path below root matches one of these patterns; * also matches /",
        json_schema_extra=_CHOOSES,
    )
    min_slices: PositiveInt = Field(3, description="leave out volumes of fewer slices", json_schema_extra=_CHOOSES)
    max_volumes: PositiveInt | None = Field(
        None, description="use only this many volumes, for trying out", json_schema_extra=_CHOOSES
    )
    max_patients: PositiveInt | None = Field(
        None, description="use only this many patients, for trying out", json_schema_extra=_CHOOSES
    )

    @field_validator("root")
    @classmethod
    def _is_folder(cls, root: Path) -> Path:
        if not root.is_dir():
            raise ValueError(f"must be a folder, but is a file: {root}")
        return root


class SeriesParams(FolderParams):
    """Parameters of a data set that consists of DICOM series."""

    modality: tuple[str, ...] = Field(
        ("CT",), min_length=1, description="modalities to use", json_schema_extra=_CHOOSES
    )
    image_type: tuple[str, ...] = Field(
        (), description='values that ImageType must hold, such as "ORIGINAL"', json_schema_extra=_CHOOSES
    )
    not_image_type: tuple[str, ...] = Field(
        tuple(NOT_SLICES),
        description="values that ImageType must not hold: localisers, reformats, pages of text",
        json_schema_extra=_CHOOSES,
    )
    body_part: tuple[str, ...] = Field(
        (), description='patterns that BodyPartExamined must match, such as "CHEST*"', json_schema_extra=_CHOOSES
    )
    kernel: tuple[str, ...] = Field(
        (), description='patterns that ConvolutionKernel must match, such as "B30*"', json_schema_extra=_CHOOSES
    )
    thickness: tuple[float, float] | None = Field(
        None, description="least and greatest slice thickness, mm", json_schema_extra=_CHOOSES
    )
    orientation: Literal["axial", "coronal", "sagittal", "any"] = Field(
        "axial", description="planes to use, by the axis nearest to their normal", json_schema_extra=_CHOOSES
    )
    same_scan: Literal["all", "largest"] = Field(
        "all",
        description="of several reconstructions or copies of one scan use all, or the one with the most slices",
        json_schema_extra=_CHOOSES,
    )

    @field_validator("thickness")
    @classmethod
    def _is_range(cls, thickness: tuple[float, float] | None) -> tuple[float, float] | None:
        if thickness and not 0 <= thickness[0] <= thickness[1]:
            raise ValueError(f"must be the least and the greatest thickness in mm, but is {list(thickness)}")
        return thickness


class RecipeParams(SeriesParams):
    """Parameters of a data set that the paper's scripts read in their own way."""

    recipe: Literal["standard", "published"] = Field(
        "standard", description="published: files, order, padding, rescaling and groups as the paper's scripts had them"
    )

    @model_validator(mode="after")
    def _published_has_no_filters(self) -> RecipeParams:
        fields = type(self).model_fields.items()
        meant = [name for name, field in fields if name not in _ALWAYS and getattr(self, name) != field.default]
        if self.recipe == "published" and meant:
            raise ValueError(f'recipe = "published" takes what the paper took: leave out {", ".join(meant)}')
        return self


def matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether the whole text matches one of the shell patterns, in capitals or not."""
    return _compiled(patterns).fullmatch(text) is not None


@lru_cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)), re.IGNORECASE)
