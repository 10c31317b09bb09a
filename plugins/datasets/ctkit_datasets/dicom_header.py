"""Turns the header of one DICOM file into the few facts that grouping, ordering, reading and explaining need."""

from __future__ import annotations

import hashlib
import math
import operator
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit_datasets.dicom_elements import (
    UNCOMPRESSED,
    UNDEFINED_LENGTH,
    Coding,
    Header,
    HeaderError,
    elements,
    items,
    read_header,
)

_KEYWORDS = {
    0x00020002: "MediaStorageSOPClassUID",
    0x00080008: "ImageType",
    0x00080016: "SOPClassUID",
    0x00080022: "AcquisitionDate",
    0x0008002A: "AcquisitionDateTime",
    0x00080032: "AcquisitionTime",
    0x00080060: "Modality",
    0x0008103E: "SeriesDescription",
    0x00083010: "IrradiationEventUID",
    0x00100020: "PatientID",
    0x00180015: "BodyPartExamined",
    0x00180050: "SliceThickness",
    0x00181210: "ConvolutionKernel",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00200011: "SeriesNumber",
    0x00200012: "AcquisitionNumber",
    0x00200032: "ImagePositionPatient",
    0x00200037: "ImageOrientationPatient",
    0x00200052: "FrameOfReferenceUID",
    0x00200100: "TemporalPositionIdentifier",
    0x00209056: "StackID",
    0x00209128: "TemporalPositionIndex",
    0x00209156: "FrameAcquisitionNumber",
    0x00280002: "SamplesPerPixel",
    0x00280004: "PhotometricInterpretation",
    0x00280008: "NumberOfFrames",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280030: "PixelSpacing",
    0x00280100: "BitsAllocated",
    0x00280101: "BitsStored",
    0x00280102: "HighBit",
    0x00280103: "PixelRepresentation",
    0x00280120: "PixelPaddingValue",
    0x00280121: "PixelPaddingRangeLimit",
    0x00281052: "RescaleIntercept",
    0x00281053: "RescaleSlope",
    0x00281054: "RescaleType",
    0x52009229: "SharedFunctionalGroupsSequence",
    0x52009230: "PerFrameFunctionalGroupsSequence",
}
_WANTED = frozenset(_KEYWORDS)
_FUNCTIONAL_GROUPS = {  # that say where a frame lies and what its values mean (PS3.3 sections C.7.6.16 and C.8.15)
    0x00189314,  # CT Reconstruction: kernel
    0x00209111,  # Frame Content: acquisition, stack, phase
    0x00209113,  # Plane Position
    0x00209116,  # Plane Orientation
    0x00289110,  # Pixel Measures: spacing, thickness
    0x00289145,  # Pixel Value Transformation: slope, intercept
}
SERIES, INSTANCE = 0x0020000E, 0x00080018  #: SeriesInstanceUID, SOPInstanceUID
_TRAITS = {0x00080070: "manufacturer", 0x00181210: "kernel"}
_LONGEST = 64  # characters of a long string (PS3.5 section 6.2)
_DICOMDIR = "1.2.840.10008.1.3.10"
_MOST_PIXELS = 4096 * 4096  # of one slice; the largest CT matrix there is
_MOST_COMPRESSION = 1000  # times; a slice of nothing but air may reach some hundred
_FARTHEST = 1e6  # mm
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # a code string (PS3.5 section 6.2) can be quoted; anything else may be a name


def inspect_file(root: Path, file: SourceFile) -> Mapping[str, Any] | Skipped:
    """Return the facts of one file, or why it holds no slice that can be read.

    The facts are ``series`` (what its slices share and tells series apart), ``storage`` (how its pixels are written),
    ``offset`` (of its pixels, in bytes) and ``slices`` (one mapping for each frame).
    """
    try:
        with (root / file.path).open("rb", buffering=0) as stream:
            return _facts(stream, os.fstat(stream.fileno()).st_size)
    except HeaderError as error:
        return Skipped(file.path, str(error))
    except IsADirectoryError:
        return Skipped(file.path, "a folder that cannot be listed")
    except OSError as error:
        return Skipped(file.path, f"cannot be opened: {error.strerror}", retry=True)


def traits(root: Path, volume: Volume) -> dict[str, str]:
    """Return manufacturer and convolution kernel of a volume, as far as its first file's header gives them."""
    found = texts(root / volume.source(0), frozenset(_TRAITS))
    return {name: found[tag][:_LONGEST] for tag, name in _TRAITS.items() if found.get(tag)}


def texts(path: Path, tags: frozenset[int]) -> Mapping[int, str]:
    """Return the values of top-level text elements of a file, {} where it is no DICOM file or cannot be read."""
    try:
        with path.open("rb", buffering=0) as stream:
            header = read_header(stream, os.fstat(stream.fileno()).st_size, tags)
    except (HeaderError, OSError):
        return {}
    return {tag: _text(value) for tag, value in header.values.items()}


def _text(value: bytes) -> str:
    """A value as it stands. Identifiers only need to be equal, so no character set."""
    return value.decode("latin-1").strip(" \0\r\n\t")


def _facts(stream: BinaryIO, size: int) -> dict[str, Any]:
    header = read_header(stream, size, _WANTED)
    values = _Values({_KEYWORDS[tag]: value for tag, value in header.values.items()}, header.coding)
    if values.text("MediaStorageSOPClassUID") == _DICOMDIR:
        raise HeaderError("DICOMDIR: a directory of other files")
    if header.pixels_at is None:
        raise HeaderError(f"no pixel data (modality {values.code('Modality')})")
    storage = _storage(values, header.syntax)
    _check_pixels(stream, header, storage)
    frames = list(_frames(values))
    if not frames or (len(frames) > 1 and len(frames) != storage["frames"]):
        raise HeaderError(f"damaged header: {storage['frames']} frames, but positions for {len(frames)}")
    return {
        "series": _series(frames[0]),
        "storage": storage,
        "offset": header.pixels_at,
        "slices": [_slice(frame, storage) for frame in frames],
    }


class _Values:
    """Decodes element values by keyword; ``HeaderError`` where one is not what the standard says."""

    def __init__(self, raw: dict[str, bytes], coding: Coding) -> None:
        self.raw = raw
        self.coding = coding

    def text(self, keyword: str) -> str:
        """Return the value as it stands, "" where absent."""
        return _text(self.raw.get(keyword, b""))

    def code(self, keyword: str) -> str:
        """Return a code string, "unknown" where it is none."""
        text = self.text(keyword).upper()
        return text if _CODE.fullmatch(text) else "unknown"

    def numbers(self, keyword: str, count: int) -> list[float] | None:
        """Return ``count`` decimal numbers, None where absent."""
        text = self.text(keyword)
        if not text:
            return None
        try:
            numbers = [float(part) for part in text.split("\\")]
        except ValueError:
            raise HeaderError(f"damaged header: {keyword} is no number") from None
        if len(numbers) != count or not all(abs(number) <= _FARTHEST for number in numbers):
            raise HeaderError(f"damaged header: {keyword} must be {count} numbers up to {_FARTHEST:.0f}")
        return numbers

    def number(self, keyword: str) -> float | None:
        """Return one decimal number, None where absent."""
        numbers = self.numbers(keyword, 1)
        return numbers[0] if numbers else None

    def word(self, keyword: str, default: int | None = None) -> int:
        """Return a 16-bit unsigned number."""
        raw = self.raw.get(keyword, b"")
        if len(raw) < 2:
            if default is None:
                raise HeaderError(f"damaged header: no {keyword}")
            return default
        return int(struct.unpack_from(self.coding.order + "H", raw)[0])


def _series(values: _Values) -> dict[str, Any]:
    """Return what tells a series from others and what filters ask for."""
    study, frame_of_reference = values.text("StudyInstanceUID"), values.text("FrameOfReferenceUID")
    number = values.text("SeriesNumber")
    return {
        "patient": values.text("PatientID"),
        "study": study,
        "series": values.text("SeriesInstanceUID"),
        "label": _digest(study, frame_of_reference, number, values.text("SeriesDescription")),
        "scan": _digest(study, frame_of_reference, values.text("IrradiationEventUID")),
        "modality": values.code("Modality"),
        "sop_class": values.text("SOPClassUID") or values.text("MediaStorageSOPClassUID"),
        "image_type": values.text("ImageType").upper().split("\\"),
        "body_part": values.text("BodyPartExamined"),
        "kernel": values.text("ConvolutionKernel"),
    }


def _storage(values: _Values, syntax: str) -> dict[str, Any]:
    """Return how the pixels are written (PS3.3 section C.7.6.3.1)."""
    bits = values.word("BitsAllocated")
    stored = values.word("BitsStored", bits)
    frames = values.number("NumberOfFrames")
    storage: dict[str, Any] = {
        "syntax": syntax,
        "order": values.coding.order,
        "rows": values.word("Rows"),
        "columns": values.word("Columns"),
        "frames": 1 if frames is None else int(frames),
        "samples": values.word("SamplesPerPixel", 1),
        "photometric": values.code("PhotometricInterpretation"),
        "bits": bits,
        "stored": stored,
        "high": values.word("HighBit", stored - 1),
        "signed": bool(values.word("PixelRepresentation", 0)),
    }
    if not 0 < stored <= storage["high"] + 1 <= bits <= 64:
        raise HeaderError("damaged header: bits stored, high bit and bits allocated contradict each other")
    if min(storage["rows"], storage["columns"], storage["frames"], storage["samples"]) < 1:
        raise HeaderError("damaged header: an image without pixels")
    if storage["rows"] * storage["columns"] > _MOST_PIXELS:
        raise HeaderError(f"header claims {storage['rows']} x {storage['columns']} pixels, more than any CT has")
    return storage


def _check_pixels(stream: BinaryIO, header: Header, storage: Mapping[str, Any]) -> None:
    """Raise ``HeaderError`` where the file cannot hold the pixels that its header claims."""
    assert header.pixels_at is not None
    pixels = storage["rows"] * storage["columns"] * storage["samples"] * storage["frames"]
    needed = (pixels * storage["bits"] + 7) // 8
    if header.syntax in UNCOMPRESSED:
        there = min(header.pixels_length, max(header.size - header.pixels_at, 0))
        if header.pixels_length == UNDEFINED_LENGTH:
            raise HeaderError("damaged header: uncompressed pixels of undefined length")
        if there < needed:
            raise HeaderError(f"truncated: {there:,} of {needed:,} bytes of pixels are there")
        return
    if header.pixels_length != UNDEFINED_LENGTH:
        raise HeaderError("damaged header: compressed pixels of defined length")
    fragments = list(_fragments(stream, header.pixels_at, header.size))
    if len(fragments) < storage["frames"]:
        raise HeaderError(f"truncated: {len(fragments):,} fragments for {storage['frames']:,} compressed frames")
    if needed > sum(fragments) * _MOST_COMPRESSION:
        raise HeaderError(f"header claims {needed:,} bytes of pixels, compressed to {sum(fragments):,}")


def _fragments(stream: BinaryIO, start: int, size: int) -> Iterator[int]:
    """Yield the bytes of each fragment of encapsulated pixels (PS3.5 section A.4), without the offset table."""
    position, table = start, True
    while position + 8 <= size:
        stream.seek(position)
        group, element, length = struct.unpack("<HHL", stream.read(8).ljust(8, b"\0"))
        if (group, element) != (0xFFFE, 0xE000):
            return
        position += 8 + length
        if position > size:
            raise HeaderError("truncated: the last fragment of compressed pixels is not whole")
        if not table:
            yield length
        table = False


def _frames(values: _Values) -> Iterator[_Values]:
    """Yield the values that hold for each frame: its own functional groups go before shared ones and those before all.

    An image without functional groups per frame (PS3.3 section C.7.6.16) yields once.
    """
    shared = next(_functional_groups(values, "SharedFunctionalGroupsSequence"), {})
    whole = _Values(values.raw | shared, values.coding)
    if "PerFrameFunctionalGroupsSequence" not in values.raw:
        yield whole
    for frame in _functional_groups(values, "PerFrameFunctionalGroupsSequence"):
        yield _Values(whole.raw | frame, values.coding)


def _functional_groups(values: _Values, keyword: str) -> Iterator[dict[str, bytes]]:
    """Yield, for each item of a sequence of functional groups, the wanted values that its groups hold."""
    data, coding = values.raw.get(keyword, b""), values.coding
    for first, last in items(data, 0, len(data), coding):
        found: dict[str, bytes] = {}
        for group, start, stop in elements(data, first, last, coding):
            if group in _FUNCTIONAL_GROUPS:
                for inner_first, inner_last in items(data, start, stop, coding):
                    for tag, a, b in elements(data, inner_first, inner_last, coding):
                        if tag in _WANTED:
                            found[_KEYWORDS[tag]] = data[a:b]
        yield found


def _slice(values: _Values, storage: Mapping[str, Any]) -> dict[str, Any]:
    """Return where one slice lies and what its stored values mean."""
    slope, intercept = values.number("RescaleSlope"), values.number("RescaleIntercept")
    if slope == 0:
        raise HeaderError("damaged header: RescaleSlope is 0")
    return {
        "position": values.numbers("ImagePositionPatient", 3),
        "orientation": _orientation(values),
        "spacing": _positive(values.numbers("PixelSpacing", 2)),
        "thickness": values.number("SliceThickness"),
        "acquisition": _acquisition(values),
        "moment": _digest(*map(values.text, ("AcquisitionDate", "AcquisitionDateTime", "AcquisitionTime"))),
        "slope": slope,
        "intercept": intercept,
        "rescale_type": values.code("RescaleType") if values.text("RescaleType") else "HU",
        "padding": _padding(values, storage),
    }


def _orientation(values: _Values) -> list[float] | None:
    """Return the direction cosines of the rows and of the columns (PS3.3 section C.7.6.2.1.1)."""
    cosines = values.numbers("ImageOrientationPatient", 6)
    if cosines is None:
        return None
    row, column = cosines[:3], cosines[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if abs(lengths[0] - 1) > 0.01 or abs(lengths[1] - 1) > 0.01 or abs(sum(map(operator.mul, row, column))) > 0.01:
        raise HeaderError("damaged header: ImageOrientationPatient must be two perpendicular unit vectors")
    return cosines


def _positive(spacing: list[float] | None) -> list[float] | None:
    return spacing if spacing and min(spacing) > 0 else None


def _acquisition(values: _Values) -> str:
    """Return what tells passes over the same positions apart: acquisition, phase and stack numbers."""
    names = ("AcquisitionNumber", "TemporalPositionIdentifier", "StackID")
    binary = ("FrameAcquisitionNumber", "TemporalPositionIndex")
    parts = [values.text(name) for name in names] + [values.raw.get(name, b"").hex() for name in binary]
    return "/".join(parts).strip("/")


def _padding(values: _Values, storage: Mapping[str, Any]) -> list[int] | None:
    """Return the lowest and highest stored value that stand for no measurement (PS3.3 section C.7.5.1.1.2).

    Some writers label a negative value as unsigned; the pixels' own representation decides.
    """
    if not values.raw.get("PixelPaddingValue"):
        return None
    first = values.word("PixelPaddingValue")
    ends = (first, values.word("PixelPaddingRangeLimit", first))
    span = 1 << storage["bits"]
    return sorted(end - span if storage["signed"] and end >= span // 2 else end for end in ends)


def _digest(*texts: str) -> str:
    """Return a short name for texts that only need to be told apart, so that no date lies in the cache."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=6).hexdigest()
