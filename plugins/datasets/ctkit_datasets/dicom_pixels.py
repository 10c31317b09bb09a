"""Reads the slices of a volume, each once, and gives their values a meaning: Hounsfield units wherever there are any.

Uncompressed pixels take the straight way from the file; compressed ones go through ``dicom_decoders``. Memory is what
is read at a time and one slice.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Pixels, Volume
from ctkit.errors import DataError
from ctkit_datasets.dicom_decoders import decode
from ctkit_datasets.dicom_elements import DEFLATED, EXPLICIT_BIG, UNCOMPRESSED, inflate
from ctkit_datasets.dicom_geometry import Turn
from ctkit_datasets.dicom_slices import Encoding

AIR = -1024  #: HU; the lowest value of a 12-bit CT scale, and what padding becomes
_TISSUE = (-900, 3000)  # HU; padding in here would blank real pixels, so there the header is wrong
_INT16 = (-32768, 32767)
_CONSTANT = "constant: every pixel has the same value"
_SAMPLE = 32  # rows and columns that are compared before two slices are compared as a whole
_BLOCK = 1 << 19  # pixels that are read at a time: they stay in the processor's cache

#: Writes the meaning of stored values (rows, columns) into an array of the same shape; returns its lowest and highest.
Convert: TypeAlias = Callable[[NDArray[Any], Encoding, NDArray[Any]], Any]


def read_volume(root: Path, volume: Volume, wanted: Ints | None) -> Pixels:
    """Return the wanted slices of a volume that ``dicom_series.arrange_series`` made, and why others are skipped.

    Values are int16 in HU, or float32 in arbitrary units where the headers give no Hounsfield units. Padding becomes
    ``AIR``, or in arbitrary units the lowest real value of its slice. Constant and repeated slices are skipped.

    Raises ``DataError`` where not one slice can be read.
    """
    (pixels,) = read_blocks(root, volume, wanted, whole=True)
    return pixels


def read_blocks(root: Path, volume: Volume, wanted: Ints | None, *, whole: bool = False) -> Iterator[Pixels]:
    """Yield what ``read_volume`` returns, some slices at a time, in an array that the next ones overwrite."""
    hounsfield = volume.details["encodings"][0]["hounsfield"]
    convert: Convert = to_hounsfield if hounsfield else to_arbitrary
    with closing(_Repeats(root, volume, convert)) as repeats:
        yield from fill(root, volume, wanted, hounsfield, convert, repeats.check, whole=whole)


def fill(
    root: Path,
    volume: Volume,
    wanted: Ints | None,
    hounsfield: bool,
    convert: Convert,
    check: Callable[[NDArray[Any], int], None] = lambda slice_, number: None,
    *,
    whole: bool = True,
) -> Iterator[Pixels]:
    """Yield slices that are converted and that ``check`` does not refuse with ``DataError``; at least one block."""
    index = np.arange(len(volume)) if wanted is None else wanted
    unit: Literal["HU", "arbitrary"] = "HU" if hounsfield else "arbitrary"
    size = len(index) if whole else min(len(index), max(1, _BLOCK // (volume.rows * volume.columns)))
    values: NDArray[Any] = np.empty((size, volume.rows, volume.columns), np.int16 if hounsfield else np.float32)
    kept: list[int] = []
    ends: list[tuple[float, float]] = []
    skipped: list[tuple[int, str]] = []
    retry, blocks = False, 0

    def block() -> Pixels:
        found = np.array(kept, np.int64), unit, tuple(skipped), retry
        return Pixels(values[: len(kept)], *found, ends=np.array(ends, values.dtype).reshape(-1, 2))

    with closing(SliceReader(root, volume)) as reader:
        for number in index.tolist():
            try:
                found = reader.read(number, values[len(kept)], convert)
                check(values[len(kept)], number)
                kept.append(number)
                ends.append(found)
            except DataError as error:
                skipped.append((number, str(error)))
                retry = retry or error.retry
            if len(kept) == size:
                yield block()
                kept, ends, skipped, retry, blocks = [], [], [], False, blocks + 1
    if skipped and not kept and not blocks:
        raise DataError(f"no slice of the volume can be read: {skipped[0][1]}", retry=retry)
    if kept or skipped or not blocks:
        yield block()


# --- meaning ------------------------------------------------------------------------------------------------------


def to_hounsfield(stored: NDArray[Any], encoding: Encoding, out: NDArray[np.int16]) -> tuple[float, float]:
    """Write the Hounsfield units of stored values, which this changes, into ``out``; both are (rows, columns).

    Returns the lowest and the highest of them. Nothing wraps while it is rescaled; the result is rounded and clipped to
    int16. Padding becomes ``AIR``, declared or not: a scanner's round field of view leaves one value below all air in
    the four corners.
    """
    padded, (low, high) = _prepared(stored, encoding)
    slope, intercept = encoding.slope, encoding.intercept or 0.0
    lowest, highest = sorted((low * slope + intercept, high * slope + intercept))
    if slope == 1 and intercept.is_integer() and lowest >= _INT16[0] and highest <= _INT16[1]:
        words = stored.view(np.int16) if stored.itemsize == 2 else stored.astype(np.int16)
        np.add(words, np.uint16(int(intercept) % (1 << 16)).view(np.int16), out=out)  # right modulo 65,536
    else:
        out[...] = np.rint(stored.astype(np.float64) * slope + intercept).clip(*_INT16)
    if padded is None and lowest >= AIR:
        return min(round(lowest), _INT16[1]), min(round(highest), _INT16[1])
    if padded is not None:
        np.copyto(out, AIR, where=padded)
    if lowest < AIR and out[0, 0] < AIR and (out[[0, 0, -1, -1], [0, -1, 0, -1]] == out[0, 0]).all():
        out += (out == out[0, 0]) * (AIR - out[0, 0])
    return ends_of(out)


def to_arbitrary(stored: NDArray[Any], encoding: Encoding, out: NDArray[np.float32]) -> tuple[float, float]:
    """Write stored values, which this changes, rescaled into ``out``, dense tissue bright; both are (rows, columns)."""
    padded, _ = _prepared(stored, encoding)
    values = stored.astype(np.float64)
    if encoding.photometric == "MONOCHROME1":
        values = sum(_stored_range(stored, encoding)) - values
    out[...] = values * encoding.slope + (encoding.intercept or 0.0)
    if padded is not None and not padded.all():
        np.copyto(out, out[~padded].min(), where=padded)
    return ends_of(out)


def ends_of(values: NDArray[Any], *, constant: bool = False) -> tuple[float, float]:
    """Return the lowest and the highest value of a slice, which may only be ``constant`` if that is said."""
    low, high = values.min().item(), values.max().item()
    if low == high and not constant:
        raise DataError(_CONSTANT)
    return low, high


def _stored_range(stored: NDArray[Any], encoding: Encoding) -> tuple[int, int]:
    """Return the lowest and highest value that the bits stored can hold."""
    bits = min(encoding.stored, 8 * stored.itemsize)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if stored.dtype.kind == "i" else (0, (1 << bits) - 1)


def _prepared(stored: NDArray[Any], encoding: Encoding) -> tuple[NDArray[np.bool_] | None, tuple[float, float]]:
    """Clear the bits that are not stored; return where padding lies, None for nowhere, and the ends of what is left."""
    low, high = _stored_range(stored, encoding)
    ends, padding = ends_of(stored, constant=True), _padding(encoding)
    outside = padding is not None and not (low <= padding[0] and padding[1] <= high)
    padded = _between(stored, padding, ends) if padding and outside else None  # only there before bits are cleared
    if _has_other_bits(stored, encoding, ends):
        stored <<= 8 * stored.itemsize - 1 - encoding.high
        stored >>= 8 * stored.itemsize - encoding.stored  # carries the sign of signed values along
        ends = ends_of(stored, constant=True)
    if ends[0] == ends[1]:
        raise DataError(_CONSTANT)
    return _between(stored, padding, ends) if padding and not outside else padded, ends


def _padding(encoding: Encoding) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that is padding, None where there is none that can be."""
    if encoding.padding is None or not encoding.hounsfield:
        return encoding.padding
    ends = sorted(end * encoding.slope + (encoding.intercept or 0.0) for end in encoding.padding)
    return encoding.padding if ends[1] <= _TISSUE[0] or ends[0] >= _TISSUE[1] else None


def _between(stored: NDArray[Any], limits: tuple[int, int], ends: tuple[float, float]) -> NDArray[np.bool_] | None:
    if limits[1] < ends[0] or ends[1] < limits[0]:
        return None
    inside = stored == limits[0] if limits[0] == limits[1] else (stored >= limits[0]) & (stored <= limits[1])
    return inside if inside.any() else None


def _has_other_bits(stored: NDArray[Any], encoding: Encoding, ends: tuple[float, float]) -> bool:
    """Whether words hold more than the stored bits (PS3.5 section 8.1.1), such as overlays."""
    if encoding.stored >= 8 * stored.itemsize:
        return False
    low, high = _stored_range(stored, encoding)
    least, greatest = ends
    if low <= least and greatest <= high:
        return False  # no higher bit is in use, whatever the header says of the highest one
    if low <= least < 0 and greatest < 1 << encoding.stored:
        return False  # negative values carry their sign, so that large ones are none: there are more bits than stored
    below = 1 << encoding.high + 1 - encoding.stored  # where all are in use, these bits are measurements, no overlay
    return below == 1 or int(np.count_nonzero(np.bincount((stored & (below - 1)).ravel()))) <= below // 2


# --- files --------------------------------------------------------------------------------------------------------


class SliceReader:
    """Reads slices of one volume; keeps the file of the last one open, as its next frame may be asked for."""

    def __init__(self, root: Path, volume: Volume) -> None:
        self._root = root
        self._volume = volume
        details = volume.details
        self._encodings = [
            Encoding(**found | {"padding": tuple(found["padding"]) if found["padding"] else None})
            for found in details["encodings"]
        ]
        self._turn = Turn(**details["turn"])
        self._number = -1
        self._file: FileIO | None = None
        self._data = b""  #: of a compressed or deflated file, from its pixels on
        self._buffer = np.empty(0, np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an upright slice."""
        return self._volume.rows, self._volume.columns

    def read(self, number: int, out: NDArray[Any], convert: Convert) -> Any:
        """Write slice ``number`` into ``out`` (rows, columns), upright; return what ``convert`` does.

        Raises ``DataError`` where it cannot be read: its file changed or vanished since the scan, is damaged, or
        needs a decoder that is not installed.
        """
        file, frame = self._volume.slices[number]
        encoding = self._encodings[self._volume.details["encoding"][number]]
        try:
            self._open(file, encoding)
            stored = self._stored(file, frame, encoding)
        except OSError as error:
            raise DataError(f"cannot be opened: {error.strerror}", retry=True) from error
        return convert(stored, encoding, self._turn.stored_view(out))

    def _open(self, number: int, encoding: Encoding) -> None:
        if number == self._number:
            return
        self.close()
        source = self._volume.files[number]
        self._file = FileIO(f"{self._root}/{source.path}")
        status = os.fstat(self._file.fileno())
        if (status.st_size, status.st_mtime_ns) != (source.size, source.mtime_ns):
            raise DataError("the file changed since it was scanned")
        offset = self._volume.details["offsets"][number]
        if encoding.syntax == DEFLATED:
            end = offset + encoding.frames * encoding.rows * encoding.columns * encoding.bits // 8
            self._data = b"".join(inflate(self._file, end))[offset:]
        elif encoding.syntax not in UNCOMPRESSED:
            self._file.seek(offset)
            self._data = self._file.read(source.size - offset)
        self._number = number

    def close(self) -> None:
        """Close the file that is open."""
        if self._file:
            self._file.close()
        self._file, self._number, self._data = None, -1, b""

    def _stored(self, number: int, frame: int, encoding: Encoding) -> NDArray[Any]:
        """Return the stored values of one frame, (rows, columns), until the next is read."""
        shape = (encoding.rows, encoding.columns)
        if encoding.syntax not in UNCOMPRESSED:
            return decode(self._data, frame, encoding)
        dtype = np.dtype(f"{'i' if encoding.signed else 'u'}{encoding.bits // 8}")
        length = encoding.rows * encoding.columns * dtype.itemsize
        if self._buffer.nbytes != length:
            self._buffer = np.empty(length, np.uint8)
        if encoding.syntax == DEFLATED:
            if len(self._data) < (frame + 1) * length:
                raise DataError("truncated: the file ends before its pixels do")
            self._buffer[:] = np.frombuffer(self._data, np.uint8, length, frame * length)
        else:
            self._fill(self._volume.details["offsets"][number] + frame * length)
        stored = self._buffer.view(dtype).reshape(shape)
        if encoding.syntax == EXPLICIT_BIG:
            stored.byteswap(inplace=True)
        return stored

    def _fill(self, offset: int) -> None:
        """Read the buffer's length from the open file."""
        assert self._file is not None
        self._file.seek(offset)
        view, there = self._buffer.data, 0
        while there < len(view):
            count = self._file.readinto(view[there:])
            if not count:
                raise DataError("truncated: the file ends before its pixels do")
            there += count


class _Repeats:
    """Finds slices with the same pixels as an earlier one, which it reads again to be sure."""

    def __init__(self, root: Path, volume: Volume, convert: Convert) -> None:
        self._reader = SliceReader(root, volume)
        self._convert = convert
        self._seen: dict[bytes, list[int]] = defaultdict(list)  #: numbers of slices by the digest of a sample
        self.close = self._reader.close

    def check(self, slice_: NDArray[Any], number: int) -> None:
        """Raise ``DataError`` where slice ``number`` repeats one that was checked."""
        rows, columns = (max(1, side // _SAMPLE) for side in slice_.shape)
        sample = slice_[::rows, ::columns].tobytes()
        alike = self._seen[hashlib.blake2b(sample, digest_size=16).digest()]
        if any(self._is_equal(slice_, other) for other in alike):
            raise DataError("duplicate: the same pixels as another slice of its volume")
        alike.append(number)

    def _is_equal(self, slice_: NDArray[Any], number: int) -> bool:
        earlier = np.empty_like(slice_)
        with suppress(DataError):  # it was in order just now, and may not be any more
            self._reader.read(number, earlier, self._convert)
            return np.array_equal(earlier, slice_)
        return False
