"""Reads single NIfTI files: the header as facts, the voxels as axial slices in the common orientation.

NIfTI-1 and NIfTI-2 as https://nifti.nimh.nih.gov defines them.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Pixels
from ctkit.errors import DataError
from ctkit_datasets.filters import MOST_PIXELS, Unit, too_large

AIR = -1024  #: HU of what the scanner did not see
_PADDING = -2000  # HU; at and below is padding, which converters leave in
_HIGHEST_AIR = -200  # HU; a CT volume holds air or lung below it, which no scale without Hounsfield units does
_LOWEST, _HIGHEST = -32768, 32767  # HU, of 16 bits
_HIGHEST_BONE = 3071  # HU of 12 bits, which scanners without an extended scale end at
_FILL = 1e9  # no unit of CT comes near; converters fill with the ends of 32-bit integers and floats
_RARE = 0.001  # share of a volume's voxels that may be anything
_FEW = 0.05  # share of its voxels that may be metal
_OUTLYING = 8  # times the range of the other values: farther than this from it, one voxel flattens all of them
_SAMPLED = 1 << 20  # voxels that the unit is told by
_INTERPOLATED = 0.01  # share of voxels between padding and the scan, where it was resampled
_IGNORED = -100  # and from here on, one negative label: of what is to be left out, mostly -1
_NEAR_LABEL = 0.01
_FEW_LABELS, _SOME_LABELS, _MANY_LABELS = 8, 32, 256
_ALIKE = 0.7  # of neighbours inside of what is labelled
_PIECE = 1 << 20  # bytes
_GZIP = b"\x1f\x8b"
_ANY_ZLIB = 47  # zlib's word for either of its headers
_TRAILING = "bytes after the compressed data are ignored"
_INFLATION = 200  # bytes that one byte of a compressed file may become; noise keeps real CT far below it
_SMALL = 1 << 26  # bytes that any compressed file may become
_LAYOUTS: tuple[tuple[Any, int, int], ...] = (  # class, bytes of the header, place of its magic
    (nibabel.Nifti1Header, 348, 344),
    (nibabel.Nifti2Header, 540, 4),
)
_LABELS = 1002  # intent code of a label map
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # by the code of the unit of length; any other is taken as millimetres
_ISOTROPIC = 1.5  # times its other spacings: from here on an axis is the one that slices were acquired along
_SHORTEST, _LONGEST = 1e-6, 1e6  # of a spacing that makes sense, in any unit
_PLANES = ("sagittal", "coronal", "axial")

# --- headers ------------------------------------------------------------------------------------------------------


def header_facts(path: Path, size: int, *, labels: bool = False) -> dict[str, Any]:
    """Return JSON-able facts from the header of a file of ``size`` bytes, compressed or not.

    ``shape`` counts slices, rows and columns of the common orientation. Raises ``DataError``, with a reason that names
    no file, where there is no volume or not all of it: no memory is taken for what a header claims. A file whose header
    says that it is a label map is one only for who wants ``labels``.
    """
    with opened(path) as (file, compressed):
        block = bytes(_read(file, 540))
    header = _header(block)
    shape = _shape(header)
    with np.errstate(all="ignore"):  # of numbers in damaged headers; what comes out is looked at
        facts = {
            **_orientation(header, shape),
            "dtype": _dtype(header, labels),
            "offset": _offset(header),
            "scale": _scale(header),
        }
    check_size(facts | {"encoding": "gzip" if compressed else "raw"}, size)
    return facts


def check_size(facts: Mapping[str, Any], size: int) -> None:
    """Raise ``DataError`` where a file of ``size`` bytes cannot hold the voxels that its header promises, or these are
    more than any CT has.
    """
    needed = facts["offset"] + math.prod(facts["file_shape"]) * np.dtype(facts["dtype"]).itemsize
    there = size - max(0, facts.get("start", 0))
    if needed > (there if facts["encoding"] == "raw" else max(_SMALL, there * _INFLATION)):
        raise DataError(f"truncated: its header asks for {needed:,} bytes, but the file has {size:,}")
    _, rows, columns = facts["shape"]
    if rows * columns > MOST_PIXELS:
        raise DataError(f"its header claims slices of {rows:,} x {columns:,} pixels, more than any CT has")
    if reason := too_large(needed):
        raise DataError(reason)


@contextmanager
def opened(path: Path, encoding: str = "", start: int = 0) -> Iterator[tuple[BinaryIO | _Inflated, bool]]:
    """Yield a file to read from, and whether it is compressed, which without an ``encoding`` is told by its content.

    A negative ``start`` counts from the end. Whatever goes wrong while it is read becomes a ``DataError``.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP if not encoding else encoding != "raw"
            file.seek(start if start >= 0 else max(0, file.seek(0, 2) + start))
            yield (_Inflated(file, 31 if encoding != "zlib" else _ANY_ZLIB) if compressed else file), compressed
    except (EOFError, zlib.error, OverflowError) as error:  # the last of a place beyond all files
        raise DataError("its compressed data are damaged or incomplete") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror or type(error).__name__}"
        raise DataError(reason, retry=error.errno is not None) from error


class _Inflated:
    """What the members of a gzip file hold, read from the front. What follows the last whole one is ignored.

    Python's own reader takes bytes behind a member, which downloads and tapes leave there, for damage of all of it.
    """

    def __init__(self, file: BinaryIO, wbits: int) -> None:
        self._file, self._member, self._packed = file, zlib.decompressobj(wbits=wbits), b""
        self._ended = False
        self.trailing = False  #: what follows the last whole member is no gzip

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end. Raises ``zlib.error`` or ``EOFError`` on damage."""
        while not self._ended:
            if self._member.eof:
                self._next_member()
                continue
            self._packed = self._packed or self._file.read(1 << 20)
            data = self._member.decompress(self._packed, size)
            exhausted = not self._packed
            self._packed = self._member.unconsumed_tail
            if data:
                return data
            if exhausted and not self._member.eof:
                raise EOFError("a member ends too early")
        return b""

    def finish(self) -> None:
        """Read on to the end of the member at hand, if it is near, so that its checksum is compared."""
        for _ in range(_SMALL >> 16):
            if self._ended or self._member.eof or not self.read(1 << 16):
                break

    def _next_member(self) -> None:
        rest = self._member.unused_data
        while not rest.lstrip(b"\0") and (more := self._file.read(1 << 20)):  # zeros may fill up a block
            rest = more
        rest = rest.lstrip(b"\0")
        rest += self._file.read(2) if len(rest) == 1 else b""
        if rest.startswith(_GZIP):
            self._member, self._packed = zlib.decompressobj(wbits=31), rest
        else:
            self._ended, self.trailing = True, bool(rest)


def _header(block: bytes) -> Any:
    orders = {int.from_bytes(block[:4], "little"): "<", int.from_bytes(block[:4], "big"): ">"}
    for kind, length, start in _LAYOUTS:
        magic = block[start : start + 3]
        if length not in orders or len(block) < length:
            continue
        if magic in (b"n+1", b"n+2"):
            return kind(block[:length], endianness=orders[length], check=False)
        if magic in (b"ni1", b"ni2"):
            raise DataError("NIfTI with its voxels in another file (.hdr and .img); save it as one .nii")
        raise DataError("ANALYZE, which has no orientation, or a damaged NIfTI header")
    raise DataError("not a NIfTI file")


def _shape(header: Any) -> tuple[int, int, int]:
    """Return the voxels along the three axes of the file."""
    count, *sizes = (int(size) for size in header["dim"])
    if not 1 <= count <= 7 or any(size < 1 for size in sizes[: min(count, 3)]):
        raise DataError("damaged header: invalid dimensions")
    x, y, z, *more = (*sizes[:count], *[1] * (7 - count))
    more = [max(size, 1) for size in more]  # a time of no moment, as some programs write
    if math.prod(more) > 1:
        raise DataError(f"{count}-D: {math.prod(more)} volumes in one file; save one of them as 3-D")
    return x, y, z


def _dtype(header: Any, labels: bool) -> str:
    code = int(header["datatype"])
    dtype = header.get_data_dtype() if code in nibabel.nifti1.data_type_codes.dtype else np.dtype("V1")
    if int(header["intent_code"]) == _LABELS and not labels:
        raise DataError("a label map")
    if dtype.names:
        raise DataError("colours, not intensities")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(f"voxels of data type {code}, which is not an integer or real number of up to 64 bits")
    return str(dtype.str)


def _offset(header: Any) -> int:
    offset, first = float(header["vox_offset"]), header.sizeof_hdr
    if not (offset == 0 or first <= offset < 2**62):  # NaN fails too
        raise DataError("damaged header: invalid position of its voxels")
    return int(offset) or first + 4


def _scale(header: Any) -> tuple[float, float] | None:
    """Return slope and intercept, None where values are stored as they are."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        return None
    intercept = intercept if math.isfinite(intercept) else 0.0
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _orientation(header: Any, shape: tuple[int, int, int]) -> dict[str, Any]:
    affine, notes, known = _affine(header)
    return orientation(affine * _MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1.0), notes, shape, known)


def usable_steps(steps: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[bool]]:
    """Return distances of voxels along the axes of a file, 1 where they make no sense, and which of them do."""
    known = np.isfinite(steps) & (np.abs(steps) > _SHORTEST) & (np.abs(steps) < _LONGEST)
    return np.where(known, steps, 1.0), known.tolist()


def orientation(
    affine: NDArray[np.float64], notes: list[str], shape: tuple[int, int, int], known: Sequence[bool] = (True,) * 3
) -> dict[str, Any]:
    """Return which axes of the file are slices, rows and columns, which of them to flip, and distances in mm.

    ``affine`` (4, 4) leads from voxels to mm at the patient's right, front and head; its last row is not looked at.
    ``known`` says of which axes of the file the distance is: that of others is None, with a note.
    """
    notes = list(notes) if all(known) else [*notes, "its header has no usable spacing along some axis: unknown"]
    if not _is_usable(affine):
        raise DataError("damaged header: neither orientation nor spacing can be used")
    steps = np.linalg.norm(affine[:3, :3], axis=0)  # from voxel to voxel along the axes of the file
    cosines = affine[:3, :3] / steps  # of each axis of the file to the patient's right, front and head
    axes = max(itertools.permutations(range(3)), key=lambda axes: np.abs(cosines[range(3), axes]).sum())
    spacing = tuple(float(steps[axis]) for axis in axes)
    right, front, head = (bool(cosines[side, axis] > 0) for side, axis in enumerate(axes))
    *_, second, largest = sorted(spacing)
    plane = _PLANES[spacing.index(largest)] if largest >= _ISOTROPIC * second else "axial"  # else none stands out
    tilt = math.degrees(math.acos(min(1.0, abs(cosines[2, axes[2]]))))
    if tilt >= 1.0:
        notes.append(f"slices are tilted by {tilt:.0f} degrees")
    if plane != "axial":
        notes.append(f"acquired in {plane} slices")
    facts = {
        "shape": [shape[axis] for axis in reversed(axes)],
        "file_shape": list(shape),
        "axes": list(reversed(axes)),
        "flips": [not head, front, right],
    }
    return facts | {
        "place": _upright(affine, facts).tolist(),
        "spacing": [round(step, 6) if known[axis] else None for step, axis in zip(spacing, axes, strict=True)],
        "plane": plane,
        "notes": notes,
    }


def _upright(affine: NDArray[np.float64], facts: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the steps of columns, rows and slices in the common orientation, and its first voxel: (3, 4)."""
    steps, first = affine[:3, :3].copy(), affine[:3, 3].copy()
    for axis, size, flip in zip(facts["axes"], facts["shape"], facts["flips"], strict=True):
        if flip:
            first += steps[:, axis] * (size - 1)
            steps[:, axis] *= -1
    return np.column_stack([steps[:, list(reversed(facts["axes"]))], first])


def slice_places(facts: Mapping[str, Any], index: Ints) -> NDArray[np.float64]:
    """Return where slices of a file with ``facts`` from its header lie, as ``Dataset.places`` says."""
    across, down, up, first = np.array(facts["place"], np.float64).T
    return np.stack([np.stack([across, down, first + up * number], axis=1) for number in index.tolist()])


def _affine(header: Any) -> tuple[NDArray[np.float64], list[str], list[bool]]:
    """Return the matrix from voxels to the patient that can be used: sform, qform, or what spacings there are."""
    forms = [form for form in ("sform", "qform") if int(header[f"{form}_code"]) > 0]
    for form in forms:
        try:
            affine = getattr(header, f"get_{form}")()
        except (ValueError, nibabel.spatialimages.HeaderDataError):  # a quaternion that is no rotation
            continue
        if _is_usable(affine):
            return affine, [], [True] * 3
    header["pixdim"][1:4], known = usable_steps(header["pixdim"][1:4].astype(np.float64))
    note = "its header has no orientation: assumed as in ANALYZE, first axis to the left"
    return header.get_base_affine(), [note], known


def _is_usable(affine: NDArray[np.float64]) -> bool:
    if not np.isfinite(affine).all():
        return False
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(
        (steps > _SHORTEST).all() and (steps < _LONGEST).all() and abs(np.linalg.det(affine[:3, :3] / steps)) > 0.05
    )


# --- voxels -------------------------------------------------------------------------------------------------------


def read_slices(path: Path, facts: Mapping[str, Any], wanted: Ints | None = None, unit: Unit = "auto") -> Pixels:
    """Decode the ``wanted`` slices (all by default) of a file with ``facts`` from its header.

    With ``unit`` "auto" a volume is in Hounsfield units if one voxel in a thousand is at -200 or less, as air and lung
    are, and few are beyond bone; else its unit is arbitrary. So it is where the lowest value alone is negative, which
    is padding. HU are rounded to int16, and what is not a number,
    a fill value, or at -2000 HU or less, which is padding, becomes -1024. The few voxels that are out of range are
    clipped to the nearest value in it, and the notes count them. Constant slices are skipped. Raises ``DataError``
    where the file is damaged, with a reason that names no file.
    """
    stored, notes = stored_voxels(path, facts)
    scale = facts["scale"]
    found = _unit(stored, scale) if unit == "auto" else unit
    slices = np.flip(stored.transpose(facts["axes"]), tuple(np.flatnonzero(facts["flips"]).tolist()))
    limits = _limits(stored, scale, found)
    ends = _ends(slices, scale, limits)
    if found == "HU" and ends[:, 2].any():  # so that what lies between bone and the end of 16 bits flattens nothing
        limits = limits._replace(high=_HIGHEST_BONE)
        ends = _ends(slices, scale, limits)
    if np.isnan(ends[:, 0]).all():
        raise DataError("it has no finite value, or values too large for 32 bits")
    limits = limits._replace(low=float(np.nanmin(ends[:, 0])), high=float(np.nanmax(ends[:, 1])))
    index = np.arange(len(slices)) if wanted is None else np.asarray(wanted, np.int64)
    varies = ends[index, 0] < ends[index, 1]
    values = np.empty((np.count_nonzero(varies), *slices.shape[1:]), _type(found, scale, slices.dtype))
    convert = _hu if found == "HU" else _arbitrary
    for target, number in zip(values, index[varies], strict=True):
        target[...] = convert(slices[number], scale, limits)
    skipped = tuple((int(number), "constant: every pixel has the same value") for number in index[~varies])
    return Pixels(values, index[varies], found, skipped, notes=(*notes, *_notes(ends, found)))


class _Limits(NamedTuple):
    """Values of a volume in its unit, after slope and intercept."""

    low: float
    high: float
    fill: float  #: what is as large, or as far below 0, stands for no value


def _unit(stored: NDArray[Any], scale: tuple[float, float] | None) -> Literal["HU", "arbitrary"]:
    values = _sample(stored, scale)
    inside = values[(values >= _LOWEST) & (values <= _HIGHEST)]
    few = np.count_nonzero(values > _HIGHEST_BONE) <= _FEW * len(values)
    if not inside.size or 2 * len(inside) < len(values) or not few or _padding(inside) < 0:
        return "arbitrary"
    return "HU" if np.quantile(inside, _RARE) <= _HIGHEST_AIR else "arbitrary"


def _limits(stored: NDArray[Any], scale: tuple[float, float] | None, unit: str) -> _Limits:
    """Return what counts as in range: HU of 16 bits; else what is not far from all but two voxels in a thousand."""
    if unit == "HU":
        return _Limits(-_FILL, _HIGHEST, _FILL)
    values = _sample(stored, scale)
    padding = _padding(values)
    if padding < 0:  # so that it flattens nothing
        values = values[values > padding]
        return _Limits(float(values[values >= 0].min()), min(float(values.max()), _FILL), _FILL)
    fill = _FILL if values.size else float(np.finfo(np.float32).max)
    low, high = np.quantile(values, (_RARE, 1 - _RARE)) if values.size else (0.0, 0.0)
    reach = _OUTLYING * (high - low) or np.inf
    return _Limits(max(float(low - reach), -fill), min(float(high + reach), fill), fill)


def _padding(values: NDArray[np.float64]) -> float:
    """Up to which value a scale that begins at 0, with air, is padded; 0 where it is not, or is none."""
    low = max(values.min(), _PADDING) if values.size else 0.0
    rest = values[values > low]
    padded = low < 0 and rest.size and np.quantile(rest, _INTERPOLATED) >= 0
    return float(low) if padded else 0.0


def _sample(stored: NDArray[Any], scale: tuple[float, float] | None) -> NDArray[np.float64]:
    """Return some of the values that are numbers and no fill values; none where the unit is one of huge numbers."""
    flat = stored.ravel(order="K")
    values = _scaled(flat[:: len(flat) // _SAMPLED | 1], scale)
    finite = values[np.isfinite(values)]
    is_usual = np.abs(finite) < _FILL
    usual, rest = finite[is_usual], finite[~is_usual]
    return usual if len(usual) >= len(rest) or len(np.unique(rest)) <= 2 else usual[:0]


def _ends(slices: NDArray[Any], scale: tuple[float, float] | None, limits: _Limits) -> NDArray[np.float64]:
    """Return of each slice the lowest and highest value in range, NaN where there is none, and how many voxels are out
    of range, and how many hold no value: (n, 4).
    """
    ends = np.full((len(slices), 4), np.nan)
    for target, plane in zip(ends, slices, strict=True):
        low, high = sorted(_scaled(np.array([plane.min(), plane.max()]), scale))  # NaN where one voxel is
        if limits.low <= low and high <= limits.high and max(-low, high) < limits.fill:
            target[:] = low, high, 0, 0
            continue
        values = _scaled(plane, scale)
        known = _known(values, limits)
        inside = known & (values >= limits.low) & (values <= limits.high)
        target[2:] = np.count_nonzero(known & ~inside), known.size - np.count_nonzero(known)
        if inside.any():
            target[:2] = values[inside].min(), values[inside].max()
    return ends


def _known(values: NDArray[np.float64], limits: _Limits) -> NDArray[np.bool_]:
    return np.abs(values) < limits.fill  # NaN is not


def _notes(ends: NDArray[np.float64], unit: str) -> Iterator[str]:
    beyond, unknown = (int(count) for count in ends[:, 2:].sum(axis=0))
    if beyond:
        yield f"voxels out of range, clipped: {beyond:,}"
    if unknown:
        yield f"NaN voxels, replaced by {'air' if unit == 'HU' else 'the lowest value'}: {unknown:,}"


@contextmanager
def _voxels(path: Path, facts: Mapping[str, Any]) -> Iterator[BinaryIO | _Inflated]:
    """Yield a file that is read up to the first voxel."""
    start = facts.get("start", 0)
    if start < 0:  # they end the file
        start = -math.prod(facts["file_shape"]) * np.dtype(facts["dtype"]).itemsize
    with opened(path, facts.get("encoding", ""), start) as (file, _):
        left = facts["offset"]
        while left > 0 and (chunk := file.read(min(1 << 20, left))):
            left -= len(chunk)
        yield file


def label_values(path: Path, facts: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the values of a label map, ascending; none of anything else, such as a damaged file.

    A label map holds whole numbers from 0 on, and perhaps one in -100..-1 for what is to be ignored: up to 8, up to 32
    that leave few out, or up to 256 where neighbours are mostly equal, as they are nowhere in CT, also of 8 bits. It is
    read to its end; of CT a first piece is enough, which holds several negative or many values.
    """
    values, alike, no = np.zeros(0), np.zeros(2, np.int64), np.zeros(0)
    dtype = np.dtype(facts["dtype"])
    left = math.prod(facts["file_shape"]) * dtype.itemsize
    try:
        with _voxels(path, facts) as file:
            while left > 0:
                piece = _read(file, min(left, _PIECE))
                if not piece or len(piece) % dtype.itemsize:
                    return no
                left -= len(piece)
                stored = np.frombuffer(piece, dtype)
                found = _scaled(np.unique(stored), facts["scale"])
                whole = found.round()
                values = np.union1d(values, whole)
                bad = values[0] < _IGNORED or np.count_nonzero(values < 0) > 1
                if len(values) > _MANY_LABELS or bad or not np.allclose(found, whole, atol=1e-3):
                    return no
                inside = (stored != 0) & (stored != 255)  # where a window of 8 bits ends
                inside = inside[1:] & inside[:-1]
                alike += np.count_nonzero(inside & (stored[1:] == stored[:-1])), np.count_nonzero(inside)
    except DataError:
        return no
    count = len(values)
    few = count <= _FEW_LABELS or (count <= _SOME_LABELS and values[-1] < 2 * count)
    return values if few or alike[0] >= _ALIKE * alike[1] else no


def is_label(stored: NDArray[Any], scale: tuple[float, float] | None, label: int) -> NDArray[np.bool_]:
    """Return where voxels, as the file holds them, have a label; those of real numbers may lie beside it by 0.01."""
    if scale is None and stored.dtype.kind in "iu":
        return np.asarray(stored == label)
    slope, intercept = scale or (1.0, 0.0)
    with np.errstate(all="ignore"):  # of numbers that no label map holds
        apart = np.abs(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept - label))
        return np.asarray(apart < _NEAR_LABEL)


def stored_voxels(path: Path, facts: Mapping[str, Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the voxels as the file holds them, in its own axes: ``facts["file_shape"]``, unscaled; and notes."""
    dtype, shape = np.dtype(facts["dtype"]), tuple(facts["file_shape"])
    needed = math.prod(shape) * dtype.itemsize
    with _voxels(path, facts) as file:
        data = _read(file, needed)
        notes = _rest(file)
    if len(data) < needed:
        raise DataError(f"truncated: {len(data):,} of {needed:,} bytes of voxels are there")
    return np.frombuffer(data, dtype).reshape(shape, order="F"), notes


def _read(file: BinaryIO | _Inflated, needed: int) -> bytearray:
    """Return so many bytes, fewer where there are no more; takes memory for what is really there alone."""
    data = bytearray()
    while len(data) < needed and (chunk := file.read(min(1 << 22, needed - len(data)))):
        data += chunk
    return data


def _rest(file: BinaryIO | _Inflated) -> tuple[str, ...]:
    """Compare the checksum of what is compressed; note what follows it."""
    if not isinstance(file, _Inflated):
        return ()
    file.finish()
    try:
        more = file.read(1)  # none of the empty members that some programs end a file with
    except (EOFError, zlib.error):  # the voxels are whole
        return (_TRAILING,)
    return (_TRAILING,) if more or file.trailing else ()


def _type(unit: str, scale: tuple[float, float] | None, stored: np.dtype[Any]) -> np.dtype[Any]:
    if unit == "HU":
        return np.dtype(np.int16)
    return stored.newbyteorder("=") if scale is None and stored.kind in "iu" else np.dtype(np.float32)


def _hu(plane: NDArray[Any], scale: tuple[float, float] | None, limits: _Limits) -> NDArray[Any]:
    if scale is None and plane.dtype.kind == "i" and plane.dtype.itemsize == 2:
        return np.where(plane > _PADDING, plane, np.int16(AIR))
    values = _scaled(plane, scale)
    values = np.where(_known(values, limits) & (values > _PADDING), values, AIR)
    return np.asarray(np.rint(values.clip(_LOWEST, limits.high)))


def _arbitrary(plane: NDArray[Any], scale: tuple[float, float] | None, limits: _Limits) -> NDArray[Any]:
    """Return values as they are stored where they can be, with the lowest of the volume for what is not a number."""
    values = _scaled(plane, scale)
    clipped = np.where(_known(values, limits), values.clip(limits.low, limits.high), limits.low)
    if scale is None and plane.dtype.kind in "iu":  # of 64 bits, a float is not each of them
        return np.where(clipped == values, plane, clipped.astype(plane.dtype))
    return clipped


def _scaled(plane: NDArray[Any], scale: tuple[float, float] | None) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):  # what is not a number is looked for afterwards
        values = plane.astype(np.float64)
        return np.asarray(values if scale is None else values * scale[0] + scale[1])
