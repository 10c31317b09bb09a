"""Decodes compressed pixels with pydicom's decoder plugins, and refuses what would make them run wild."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ctkit.errors import DataError

if TYPE_CHECKING:
    from ctkit_datasets.dicom_slices import Encoding

_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_FOR_12_BITS = "pylibjpeg pylibjpeg-libjpeg"  # the latter is GPL, so ctkit does not bring it
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.20")  # the last: HTJ2K
_EXTRAS = 1 << 20  # bytes of a compressed slice besides its pixels
_RLE = "1.2.840.10008.1.2.5"
_HUFFMAN, _SCAN, _JPEG_LS = 0xC4, 0xDA, 0xF7  # markers: tables, start of scan, frame of JPEG-LS (ISO/IEC 14495-1)
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {_HUFFMAN, 0xC8, 0xCC} | {_JPEG_LS}


def decode(data: bytes, frame: int, encoding: Encoding) -> NDArray[Any]:
    """Return the stored values (rows, columns) of one frame of encapsulated pixels, ``data`` (PS3.5 section A.4).

    Raises ``DataError`` where they are damaged, or where no decoder is installed: then it names the package.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    decoder = get_decoder(encoding.syntax)
    name = UID(encoding.syntax).name
    if not decoder.is_available:
        package = "pylibjpeg pylibjpeg-openjpeg" if encoding.syntax.startswith(_JPEG_2000) else "python-gdcm"
        raise DataError(f"{name} needs other packages: pip install {package}", retry=True)
    options: dict[str, Any] = {
        "rows": encoding.rows,
        "columns": encoding.columns,
        "samples_per_pixel": encoding.samples,
        "photometric_interpretation": encoding.photometric,
        "number_of_frames": encoding.frames,
        "bits_allocated": encoding.bits,
        "bits_stored": encoding.stored,
        "pixel_representation": int(encoding.signed),
        "pixel_keyword": "PixelData",
    }
    try:
        with warnings.catch_warnings(action="ignore"):  # pydicom warns of what it puts right, such as a wrong precision
            _check_stream(get_frame(data, frame, number_of_frames=encoding.frames), encoding)
            stored: NDArray[Any] = decoder.as_array(data, index=frame, raw=True, **options)[0]
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a damaged stream makes them
        if encoding.syntax == _JPEG_EXTENDED and encoding.stored > 8:
            reason = f"{name} of 12 bits needs other packages: pip install {_FOR_12_BITS}"
            raise DataError(reason, retry=True) from error
        raise DataError(f"damaged pixels: {name} cannot be decoded") from error
    if stored.shape != (encoding.rows, encoding.columns) or stored.itemsize > 2:
        raise DataError("damaged pixels: the decoded slice has another matrix than in the header")
    return stored


def _check_stream(stream: bytes, encoding: Encoding) -> None:
    """Raise ``DataError`` where a code stream is not what the header says.

    Decoders believe the stream: they would take memory for its matrix, and GDCM ends its process over a JPEG stream
    with damaged segments or an impossible depth.
    """
    if len(stream) > 2 * encoding.rows * encoding.columns * encoding.samples * encoding.bits // 8 + _EXTRAS:
        raise DataError("damaged pixels: more bytes compressed than there can be")
    if encoding.syntax == _RLE:  # it says nothing else of itself
        return
    *matrix, depth = _jpeg_2000_frame(stream) if encoding.syntax.startswith(_JPEG_2000) else _jpeg_frame(stream)
    if matrix != [encoding.rows, encoding.columns, encoding.samples] or not 1 < depth <= encoding.bits:
        raise DataError("damaged pixels: the compressed slice has another matrix or depth than in the header")


def _jpeg_2000_frame(stream: bytes) -> tuple[int, int, int, int]:
    """Return rows, columns, components and bits of a JPEG 2000 stream (ISO/IEC 15444-1 section A.5.1)."""
    start = stream.index(b"\xff\x4f\xff\x51") + 8  # past the markers, the segment's length and its capabilities
    right, bottom, left, top = struct.unpack_from(">4L", stream, start)
    components, depth = struct.unpack_from(">HB", stream, start + 32)
    return bottom - top, right - left, components, (depth & 0x7F) + 1


def _jpeg_frame(stream: bytes) -> tuple[int, int, int, int]:
    """Return rows, columns, components and bits of a JPEG or JPEG-LS stream (ISO/IEC 10918-1 section B.2.2)."""
    segments = dict(_jpeg_segments(stream))
    frames = [marker for marker in segments if marker in _FRAME_HEADERS]
    if len(frames) != 1 or (frames[0] != _JPEG_LS and _HUFFMAN not in segments):
        raise DataError("damaged pixels: a JPEG stream without a frame or its tables")
    depth, rows, columns, components = struct.unpack_from(">BHHB", stream, segments[frames[0]])
    return rows, columns, components, depth


def _jpeg_segments(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each segment before the first scan."""
    position = 2
    while stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == _SCAN:
            return
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        yield marker, position + 4
        position += 2 + int.from_bytes(stream[position + 2 : position + 4])
    raise DataError("damaged pixels: a JPEG stream without a scan")
