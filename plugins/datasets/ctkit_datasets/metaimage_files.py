"""Reads the text headers of MetaImage and NRRD files as facts, as ``nifti_files`` has them of NIfTI.

MetaImage as https://docs.itk.org/en/latest/learn/metaio.html describes it, NRRD as https://teem.sourceforge.net/nrrd
does, both as ITK reads them. The headers name the file of the voxels: it is opened only inside of their own folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.errors import DataError
from ctkit_datasets.nifti_files import check_size, header_facts, opened, orientation, usable_steps

METAIMAGE, NRRD = (".mhd", ".mha"), (".nrrd", ".nhdr")
_FLAT = 0.05  # determinant of direction cosines; below, axes lie in one plane
_LONGEST = 1 << 20  # bytes of a header; those of segmentations list their segments
_META_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_NRRD_TYPES = {"char": "i1", "short": "i2", "int": "i4", "long long": "i8", "float": "f4", "double": "f8"}
_TO_RIGHT_AND_FRONT = {"left": -1.0, "posterior": -1.0, "inferior": -1.0}  # of what a space counts to
_SPACES = {"lps": "left-posterior-superior", "ras": "right-anterior-superior", "las": "left-anterior-superior"}


def text_header_facts(path: Path, size: int) -> dict[str, Any]:
    """Return JSON-able facts from the header of a MetaImage or NRRD file of ``size`` bytes.

    They are those of ``nifti_files.header_facts``, and ``data`` (name of the file that holds the voxels, "" for this
    one), ``start`` (of the voxels there, bytes; -1 for the end) and ``encoding``. Raises ``DataError``, with a reason
    that names no file.
    """
    with opened(path) as (file, _):
        block = file.read(_LONGEST)
    with np.errstate(all="ignore"):  # of numbers in damaged headers; what comes out is looked at
        try:
            facts = _nrrd(block) if path.name.lower().endswith(NRRD) else _metaimage(block)
        except (ValueError, OverflowError) as error:
            raise DataError("damaged header: invalid number") from error
    if facts["data"]:
        data_file(path, facts)
    else:
        check_size(facts, size)
    return facts


def volume_header(path: Path, size: int, *, labels: bool = False) -> dict[str, Any]:
    """Return facts from a header of any of the formats, by the name of its file."""
    if path.name.lower().endswith((*METAIMAGE, *NRRD)):
        return text_header_facts(path, size)
    return header_facts(path, size, labels=labels) | {"data": ""}


def data_file(path: Path, facts: Mapping[str, Any]) -> Path:
    """Return where the voxels of a header lie. Raises ``DataError`` where that is not inside of the header's folder."""
    name = str(facts["data"])
    if not name:
        return path
    found = path.parent / name
    if Path(name).is_absolute() or re.match(r"[A-Za-z]:|\\\\", name) or ".." in re.split(r"[/\\]", name):
        raise DataError("its voxels are outside its folder")
    try:
        inside = found.resolve().is_relative_to(path.parent.resolve())
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise DataError("its voxels are outside its folder")
    return found


# --- MetaImage ----------------------------------------------------------------------------------------------------


def _metaimage(block: bytes) -> dict[str, Any]:
    fields: dict[str, str] = {}
    place = 0
    while "ElementDataFile" not in fields:
        end = block.find(b"\n", place)
        line = block[place : end if end >= 0 else None].decode("utf-8", "surrogateescape")
        key, equals, value = line.partition("=")
        if not equals or len(line) > 10_000:
            raise DataError("not a MetaImage file, or its header is damaged")
        fields[key.strip()] = value.strip()
        if end < 0:
            break
        place = end + 1
    if "ElementDataFile" not in fields or fields.get("ObjectType", "Image").lower() != "image":
        raise DataError("not a MetaImage file, or its header is damaged")
    count = int(fields.get("NDims", "0"))
    sizes = _three([int(size) for size in fields.get("DimSize", "").split()], count)
    if int(fields.get("ElementNumberOfChannels", "1")) != 1:
        raise DataError("several values for each voxel, not intensities")
    if fields.get("ElementType") not in _META_TYPES:
        raise DataError("voxels that are not integers or real numbers of up to 64 bits")
    if fields.get("BinaryData", "True").lower() == "false":
        raise DataError("voxels written as text; save them as binary")
    big = _first(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB").lower() == "true"
    compressed = fields.get("CompressedData", "False").lower() == "true"
    local = fields["ElementDataFile"].upper() in ("LOCAL", "")
    skipped = int(fields.get("HeaderSize", "0"))
    return {
        **_meta_affine(fields, count, sizes),
        "dtype": np.dtype(_META_TYPES[fields["ElementType"]]).newbyteorder(">" if big else "<").str,
        "offset": 0,
        "scale": None,
        "data": "" if local else _single(fields["ElementDataFile"]),
        "start": place if local else max(-1, skipped),
        "encoding": "zlib" if compressed else "raw",
    }


def _first(fields: Mapping[str, str], *keys: str) -> str:
    return next((fields[key] for key in keys if key in fields), "")


def _meta_affine(fields: Mapping[str, str], count: int, sizes: tuple[int, int, int]) -> dict[str, Any]:
    spacing = _numbers(_first(fields, "ElementSpacing", "ElementSize") or "1 " * count, count)
    first = _numbers(_first(fields, "Offset", "Position", "Origin") or "0 " * count, count)
    turned = _first(fields, "TransformMatrix", "Rotation", "Orientation")
    cosines = np.reshape(_numbers(turned, count * count), (count, count)) if turned else np.eye(count)
    return _placed(cosines[:3, :3].T if turned else None, spacing[:3], first[:3], (-1.0, -1.0, 1.0), sizes)


# --- NRRD ---------------------------------------------------------------------------------------------------------


def _nrrd(block: bytes) -> dict[str, Any]:
    if not re.match(rb"NRRD000[1-6]\r?\n", block):
        raise DataError("not an NRRD file")
    ending = re.search(rb"\r?\n\r?\n", block)
    text = block[: ending.start() if ending else None].decode("utf-8", "surrogateescape")
    fields: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        key, colon, value = line.partition(": ")
        if colon and not line.startswith("#") and ":=" not in line.partition(" ")[0]:
            fields[key.strip().lower()] = value.strip()
    data = _first(fields, "data file", "datafile")
    if not data and not ending:
        raise DataError("damaged header: it has no end")
    count = int(fields.get("dimension", "0"))
    sizes = [int(size) for size in fields.get("sizes", "").split()]
    if len(sizes) != count or _first(fields, "line skip", "lineskip") not in ("", "0"):
        raise DataError("damaged header: invalid dimensions")
    axes, directions, spacing = _nrrd_axes(fields, sizes)
    space = _SPACES.get(fields.get("space", "").lower(), fields.get("space", "").lower()).split("-")
    signs = [_TO_RIGHT_AND_FRONT.get(way, 1.0) for way in space] if len(space) == 3 else [-1.0, -1.0, 1.0]
    if not {"left", "right"} & set(space):  # scanner's and unknown spaces, as ITK takes them
        signs = [-1.0, -1.0, 1.0]
    first = _numbers(re.sub(r"[(),]", " ", _first(fields, "space origin", "spaceorigin")) or "0 0 0", 3)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise DataError("an NRRD encoding that is neither raw nor gzip")
    skipped = int(_first(fields, "byte skip", "byteskip") or 0)
    start = ending.end() if ending and not data else 0
    if encoding == "raw":
        start = start + skipped if skipped >= 0 else -1
    return {
        **_placed(directions, spacing, first, tuple(signs), _three([sizes[axis] for axis in axes], len(axes))),
        "dtype": _nrrd_type(fields.get("type", "")).newbyteorder(">" if fields.get("endian") == "big" else "<").str,
        "offset": max(0, skipped) if encoding != "raw" else 0,
        "scale": None,
        "data": _single(data),
        "start": start,
        "encoding": "raw" if encoding == "raw" else "gzip",
    }


def _nrrd_axes(
    fields: Mapping[str, str], sizes: list[int]
) -> tuple[list[int], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return which axes lie in space, their directions (3, 3) as columns, None where unknown, and their spacings."""
    vectors = re.findall(r"none|\([^)]*\)", _first(fields, "space directions", "spacedirections"))
    if len(vectors) == len(sizes) and sum(vector != "none" for vector in vectors) == 3:
        axes = [axis for axis, vector in enumerate(vectors) if vector != "none"]
        if any(size != 1 for axis, size in enumerate(sizes) if axis not in axes):
            raise DataError("several values for each voxel, or several volumes; save one of them as 3-D")
        steps = np.array([_numbers(re.sub(r"[(),]", " ", vectors[axis]), 3) for axis in axes]).T
        lengths = np.linalg.norm(steps, axis=0)
        return axes, steps / lengths, lengths
    _three(sizes, len(sizes))
    spacings = [float(step) for step in fields.get("spacings", "").split()]
    return list(range(len(sizes))), None, np.array([*spacings, 1.0, 1.0, 1.0])[:3]


def _nrrd_type(name: str) -> np.dtype[Any]:
    words = [word for word in name.lower().split() if word not in ("signed", "unsigned")]
    unsigned = "unsigned" in name.lower() or name.lower().startswith("u")
    plain = " ".join(word for word in words if word != "int") or "int"
    plain = plain.removeprefix("u") if plain.startswith("u") else plain
    bits = re.fullmatch(r"int(8|16|32|64)(_t)?", plain)
    code = f"i{int(bits[1]) // 8}" if bits else _NRRD_TYPES.get({"longlong": "long long"}.get(plain, plain), "")
    if not code:
        raise DataError("voxels that are not integers or real numbers of up to 64 bits")
    return np.dtype(code.replace("i", "u") if unsigned else code)


# --- both ---------------------------------------------------------------------------------------------------------


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    found = np.array([float(word) for word in text.split()])
    if len(found) != count:
        raise DataError("damaged header: numbers are missing")
    return found


def _three(sizes: list[int], count: int) -> tuple[int, int, int]:
    if len(sizes) != count or any(size < 1 for size in sizes):
        raise DataError("damaged header: invalid dimensions")
    if count < 3:
        raise DataError(f"{count}-D, not a volume")
    if math.prod(sizes[3:]) > 1:
        raise DataError(f"{count}-D: {math.prod(sizes[3:])} volumes in one file; save one of them as 3-D")
    x, y, z = sizes[:3]
    return x, y, z


def _single(name: str) -> str:
    """Return the name of the one file that holds the voxels."""
    if name.upper().startswith("LIST") or "%" in name:
        raise DataError("its voxels are in several files; save them in one")
    return name


def _placed(
    cosines: NDArray[np.float64] | None,
    spacing: NDArray[np.float64],
    first: NDArray[np.float64],
    signs: tuple[float, ...],
    sizes: tuple[int, int, int],
) -> dict[str, Any]:
    """Return facts on orientation, by direction cosines (3, 3) as columns, spacings, and the place of the first voxel.

    What makes no sense of them is unknown, with a note. ``signs`` lead to the patient's right, front and head.
    """
    steps, known = usable_steps(spacing)
    notes = []
    if cosines is None or not np.isfinite(cosines).all() or abs(np.linalg.det(cosines)) <= _FLAT:
        notes = ["its header has no orientation: assumed first axis to the left, second to the back"]
        cosines, signs = np.eye(3), (-1.0, -1.0, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = cosines * steps
    affine[:3, 3] = np.where(np.isfinite(first), first, 0.0)
    affine[:3] *= np.array(signs)[:, None]
    return orientation(affine, notes, sizes, known)
