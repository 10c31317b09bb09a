"""Decodes compressed pixels with pydicom's decoder plugins, and refuses what would make them run wild."""

from __future__ import annotations

import struct
import warnings
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from ctkit_datasets.dicom_series import Encoding

_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_FOR_12_BITS = "pylibjpeg pylibjpeg-libjpeg"  # the latter is GPL, so ctkit does not bring it
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.20")  # the last: HTJ2K
_RLE = "1.2.840.10008.1.2.5"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF of JPEG (T.81) and JPEG-LS (T.87)


class DecodeError(Exception):
    """Compressed pixels cannot be decoded; the message is a reason without patient data."""


def decode(data: bytes, frame: int, encoding: Encoding) -> NDArray[Any]:
    """Return the stored values (rows, columns) of one frame of encapsulated pixels, ``data`` (PS3.5 section A.4).

    Raises ``DecodeError`` where they are damaged, or where no decoder is installed: then it names the package.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    name = UID(encoding.syntax).name
    try:
        decoder = get_decoder(encoding.syntax)
    except NotImplementedError:
        raise DecodeError("unknown transfer syntax") from None
    if not decoder.is_available:
        raise DecodeError(f"{name} needs other packages: pip install {_package(encoding.syntax)}")
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what it puts right, such as a wrong precision
            _check_matrix(get_frame(data, frame, number_of_frames=encoding.frames), encoding)
            stored: NDArray[Any] = decoder.as_array(data, index=frame, raw=True, **options)[0]
    except DecodeError:
        raise
    except Exception as error:  # decoders raise whatever a damaged stream makes them
        if encoding.syntax == _JPEG_EXTENDED and encoding.stored > 8:
            raise DecodeError(f"{name} of 12 bits needs other packages: pip install {_FOR_12_BITS}") from error
        raise DecodeError(f"damaged pixels: {name} cannot be decoded") from error
    if stored.shape != (encoding.rows, encoding.columns) or stored.itemsize > 2:
        raise DecodeError("damaged pixels: the decoded slice has another matrix than the header says")
    return stored


def _package(syntax: str) -> str:
    """Return what to install for a transfer syntax."""
    return "pylibjpeg pylibjpeg-openjpeg" if syntax.startswith(_JPEG_2000) else "python-gdcm"


def _check_matrix(stream: bytes, encoding: Encoding) -> None:
    """Raise ``DecodeError`` where a code stream claims another matrix than the header: decoders believe the stream."""
    if encoding.syntax == _RLE:  # it has no matrix of its own
        return
    claimed = _jpeg_2000_matrix(stream) if encoding.syntax.startswith(_JPEG_2000) else _jpeg_matrix(stream)
    if claimed != (encoding.rows, encoding.columns, encoding.samples):
        raise DecodeError("damaged pixels: the compressed slice has another matrix than the header says")


def _jpeg_2000_matrix(stream: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components from the SIZ segment of a code stream (ISO/IEC 15444-1 section A.5.1)."""
    start = stream.index(b"\xff\x4f\xff\x51") + 8  # past the markers, the segment's length and its capabilities
    right, bottom, left, top = struct.unpack_from(">4L", stream, start)
    (components,) = struct.unpack_from(">H", stream, start + 32)
    return bottom - top, right - left, components


def _jpeg_matrix(stream: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components from the frame header (ISO/IEC 10918-1 section B.2.2)."""
    position = 2
    while position + 9 < len(stream):
        if stream[position] != 0xFF:
            break
        marker = stream[position + 1]
        if marker in _FRAME_HEADERS:
            rows, columns, components = struct.unpack_from(">HHB", stream, position + 5)
            return rows, columns, components
        position += 1 if marker == 0xFF else 2 + int.from_bytes(stream[position + 2 : position + 4])
    raise DecodeError("damaged pixels: a JPEG stream without a frame header")
