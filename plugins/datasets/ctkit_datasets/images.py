"""Data set ``images``: slices that were exported as pictures, grouped into volumes by their names."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ctkit.contracts import Dataset, Ints, Pixels, Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit_datasets.file_kinds import other_kind
from ctkit_datasets.filters import FolderParams, chosen, unwanted
from ctkit_datasets.packed_groups import PackedGroups
from ctkit_datasets.source_files import walk
from ctkit_formats.pictures import FEW_LEVELS, SUFFIXES, decoded, opened, shape_of

PATTERN = r"(?P<patient>[^/]+?)(?:(?:_(?P<volume>\d+))?_(?P<index>\d+))?$"
NUMBERED = r"(?P<patient>[^/]+?)\D*(?P<index>\d+)$"  #: reads the number at a name's end as the index of a slice

_NO_INDEX = (
    f"a single picture, because the parameter pattern finds no index in its name: try pattern = '{NUMBERED}', "
    "or min_slices = 1 for a set of single slices"
)


class ImagesParams(FolderParams):
    """Which files to use, and how their names group them."""

    pattern: str = Field(
        PATTERN,
        description="regular expression that is searched in a file's path below root, without its suffix. Its named "
        "groups are the patient, the volume and the index of the slice, each optional. Files of one folder with the "
        "same patient and volume make up a volume. The default reads PATIENT_index and PATIENT_volume_index; "
        "one folder per volume is (?P<patient>[^/]+)/(?P<index>[^/]+)$",
    )

    @field_validator("pattern")
    @classmethod
    def _has_known_groups(cls, pattern: str) -> str:
        try:
            groups = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"must be a regular expression, but {pattern!r} is none: {error}") from error
        if not groups or groups - {"patient", "volume", "index"}:
            raise ValueError(f"must have groups named patient, volume or index, but has {sorted(groups) or 'none'}")
        return pattern


class Images(Dataset[ImagesParams]):
    """Volumes of grey images in natural order of their numbers; colour becomes grey, values have no unit.

    Images of a volume whose size or depth differs from most, doubles, and damaged files are left out with the reason.
    """

    version = 2

    def files(self) -> Iterator[SourceFile]:
        """Every file below the root."""
        return walk(self.params.root)

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read size, depth and number of frames from one header."""
        if not file.path.lower().endswith(SUFFIXES):
            other = other_kind(self.params.root / file.path, "images")
            return Skipped(file.path, other or f"not an image by its name, which should end in {', '.join(SUFFIXES)}")
        try:
            with warnings.catch_warnings(action="ignore"), opened(self.params.root / file.path) as image:
                return {"shape": shape_of(image), "frames": getattr(image, "n_frames", 1)}
        except DataError as error:
            return Skipped(file.path, str(error), error.retry)

    def arrange(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield volumes in natural order of folder, patient and volume."""
        groups: PackedGroups[_Key, _Named] = PackedGroups()
        for file, facts in headers:
            reason = unwanted(file.path, self.params)
            found = re.search(self.params.pattern, str(PurePosixPath(file.path).with_suffix("")))
            if reason or not found:
                yield Skipped(file.path, reason or "its path does not match the parameter pattern")
                continue
            names = found.groupdict()
            key = _Key(file.path.rpartition("/")[0], names.get("patient") or "", names.get("volume") or "")
            groups.add(key, [_Named(names.get("index") or "", file, tuple(facts["shape"]), facts["frames"])])
        ordered = sorted(groups, key=lambda key: [_natural(part) for part in key])
        outcomes = (one for key in ordered for one in _outcomes(key, groups.take(key)))
        yield from chosen((_hinted(one, self.params) for one in outcomes), self.params)

    def read(self, volume: Volume, wanted: Ints | None = None) -> Pixels:
        """Decode the files of the slices; a file that fails costs its slices."""
        index = np.arange(len(volume)) if wanted is None else np.asarray(wanted, np.int64)
        values = np.empty((len(index), volume.rows, volume.columns), np.dtype(volume.details["kind"]))
        readable = np.zeros(len(index), np.bool_)
        skipped: list[tuple[int, str]] = []
        retry = False
        for place, number in enumerate(index.tolist()):
            file, frame = volume.slices[number]
            try:
                with warnings.catch_warnings(action="ignore"):  # of damaged metadata, which is not used
                    found = decoded(self.params.root / volume.files[file].path, frame, grey=True)
                values[place] = _checked(found, values.shape[1:])
                readable[place] = True
            except DataError as error:
                skipped.append((number, str(error)))
                retry = retry or error.retry
        read = values if readable.all() else values[readable]
        return Pixels(read, index[readable], "arbitrary", tuple(skipped), retry, tuple(_few_levels(read)))


# --- names --------------------------------------------------------------------------------------------------------


class _Key(NamedTuple):
    """What the files of a volume have in common."""

    folder: str
    patient: str
    volume: str


class _Named(NamedTuple):
    """A file with what its name and its header say."""

    number: str
    file: SourceFile
    shape: tuple[int, int, str]  #: rows, columns, type of a pixel
    frames: int


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that orders texts as people do: numbers by their value, so that 9 comes before 10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _outcomes(key: _Key, members: list[_Named]) -> Iterator[Volume | Skipped]:
    """Yield those of some files that do not fit, then the volume of the others."""
    usual = Counter(member.shape for member in members).most_common(1)[0][0]
    used: list[_Named] = []
    for member in sorted(members, key=lambda member: (_natural(member.number), _natural(member.file.path))):
        if member.shape != usual:
            reason = f"{_words(member.shape)}, while most of its volume is {_words(usual)}"
            yield Skipped(member.file.path, reason)
        elif used and member.number and member.number == used[-1].number:
            yield Skipped(member.file.path, "another file of its volume has the same index")
        else:
            used.append(member)
    rows, columns, kind = usual
    yield Volume(
        key=":".join(part.replace("%", "%25").replace(":", "%3A") for part in key),
        patient=key.patient or key.folder.partition("/")[0] or "unknown",
        files=tuple(member.file for member in used),
        slices=tuple((number, frame) for number, member in enumerate(used) for frame in range(member.frames)),
        rows=rows,
        columns=columns,
        details={"kind": kind},
    )


def _hinted(found: Volume | Skipped, params: ImagesParams) -> Volume | Skipped:
    """Return what was found, but say what helps where a picture is a volume by itself though its name is numbered."""
    if isinstance(found, Volume) and len(found) == 1 < params.min_slices:
        name = str(PurePosixPath(found.files[0].path).with_suffix(""))
        matched = re.search(params.pattern, name)
        if re.search(r"\d$", name) and not (matched and matched.groupdict().get("index")):
            return Skipped(found.files[0].path, _NO_INDEX)
    return found


def _words(shape: tuple[int, int, str]) -> str:
    rows, columns, kind = shape
    return f"{rows} x {columns} pixels of {8 * np.dtype(kind).itemsize} bits"


# --- pixels -------------------------------------------------------------------------------------------------------


def _checked(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a slice (rows, columns) that can be used."""
    if values.shape != shape:
        raise DataError("its size differs from that of its first frame")
    if not np.isfinite(values).all():
        raise DataError("it has NaN values")
    if values.min() == values.max():
        raise DataError("constant: every pixel has the same value")
    return values


def _few_levels(values: NDArray[Any]) -> Iterator[str]:
    """Say where all but 1 % of a volume's pixels share few of the grey levels that it is shown in."""
    if values.size:
        low, high = float(values.min()), float(values.max())
        usual = float(np.partition(values, last := int(0.99 * (values.size - 1)), axis=None)[last])
        if (usual - low) * 256 < FEW_LEVELS * (high - low):
            yield f"99 % of its pixels are within {FEW_LEVELS} of 256 grey levels: a few bright ones stretch the scale"
