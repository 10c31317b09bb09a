"""Turns the header of one DICOM file into the few facts that grouping, ordering, reading and explaining need."""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
import os
import re
import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit_datasets.dicom_elements import (
    DEFLATED,
    UNCOMPRESSED,
    UNDEFINED_LENGTH,
    Coding,
    Header,
    elements,
    inflate,
    items,
    read_header,
)
from ctkit_datasets.dicom_terms import known_kernel, known_manufacturer, known_modality
from ctkit_datasets.filters import MOST_PIXELS, too_large

_KEYWORDS = {
    0x00020002: "MediaStorageSOPClassUID", 0x00080008: "ImageType", 0x00080016: "SOPClassUID",
    0x00080020: "StudyDate", 0x00080022: "AcquisitionDate", 0x0008002A: "AcquisitionDateTime",
    0x00080032: "AcquisitionTime", 0x00080033: "ContentTime", 0x00080060: "Modality", 0x0008103E: "SeriesDescription",
    0x00083010: "IrradiationEventUID", 0x00089007: "FrameType", 0x00100020: "PatientID",
    0x00180015: "BodyPartExamined", 0x00180050: "SliceThickness", 0x00180060: "KVP", 0x00181060: "TriggerTime",
    0x00181210: "ConvolutionKernel", 0x00189074: "FrameAcquisitionDateTime",
    0x0018937C: "MonoenergeticEnergyEquivalent", 0x0020000D: "StudyInstanceUID", 0x0020000E: "SeriesInstanceUID",
    0x00200011: "SeriesNumber", 0x00200012: "AcquisitionNumber", 0x00200013: "InstanceNumber",
    0x00200032: "ImagePositionPatient", 0x00200037: "ImageOrientationPatient", 0x00200052: "FrameOfReferenceUID",
    0x00200100: "TemporalPositionIdentifier", 0x00204000: "ImageComments", 0x00209056: "StackID",
    0x00209128: "TemporalPositionIndex", 0x00209153: "NominalCardiacTriggerDelayTime",
    0x00209156: "FrameAcquisitionNumber", 0x00209157: "DimensionIndexValues", 0x00209158: "FrameComments",
    0x00209241: "NominalPercentageOfCardiacPhase", 0x00209245: "NominalPercentageOfRespiratoryPhase",
    0x0020930D: "TemporalPositionTimeOffset", 0x00280002: "SamplesPerPixel", 0x00280004: "PhotometricInterpretation",
    0x00280008: "NumberOfFrames", 0x00280010: "Rows", 0x00280011: "Columns", 0x00280030: "PixelSpacing",
    0x00280100: "BitsAllocated", 0x00280101: "BitsStored", 0x00280102: "HighBit", 0x00280103: "PixelRepresentation",
    0x00280120: "PixelPaddingValue", 0x00280121: "PixelPaddingRangeLimit", 0x00281052: "RescaleIntercept",
    0x00281053: "RescaleSlope", 0x00281054: "RescaleType", 0x52009229: "SharedFunctionalGroupsSequence",
    0x52009230: "PerFrameFunctionalGroupsSequence",
}  # fmt: skip
_WANTED = frozenset(_KEYWORDS)
_FUNCTIONAL_GROUPS = {  # that say where a frame lies and what its values mean (PS3.3 sections C.7.6.16 and C.8.15)
    0x00189118, 0x00209253,  # Cardiac and Respiratory Synchronization: phase, delay
    0x00189314, 0x00189325, 0x00189329,  # CT Reconstruction: kernel; CT X-Ray Details: voltage; CT Image Frame Type
    0x00189364,  # Multi-energy CT Characteristics
    0x00209111, 0x00209310,  # Frame Content: acquisition, stack, phase; Temporal Position
    0x00209113, 0x00209116,  # Plane Position, Plane Orientation
    0x00289110, 0x00289145,  # Pixel Measures: spacing, thickness; Pixel Value Transformation: slope, intercept
}  # fmt: skip
_EVERY_TAG = range(1 << 32)
PUT_RIGHT = "direction cosines were not perpendicular unit vectors; corrected"
SERIES, INSTANCE = 0x0020000E, 0x00080018  #: SeriesInstanceUID, SOPInstanceUID
_PER_FRAME = 0x52009230  # functional groups
_TRAITS = {0x00080070: ("manufacturer", known_manufacturer), 0x00181210: ("kernel", known_kernel)}
_DICOMDIR = "1.2.840.10008.1.3.10"
_MOST_FRAGMENTS = 1_000_000  # of compressed pixels
_MOST_COMPRESSION = 1000  # times; a slice of nothing but air may reach some hundred
_FARTHEST = 1e6  # mm
_SKEWED = (0.01, 0.1)  # direction cosines that are off by more are put right, by still more refused
_PLAIN = re.compile(rb"[0-9. +-]+")
_ENERGY = re.compile(r"(?<![0-9.])([0-9]{2,3})[ _]?KEV", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{2}):?([0-9]{2}):?([0-9]{2}(?:\.[0-9]*)?).*")
_DAY = 86_400  # s
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # a code string (PS3.5 section 6.2) can be quoted; anything else may be a name


def inspect_file(root: Path, file: SourceFile) -> Mapping[str, Any] | Skipped:
    """Return the facts of one file, or why it holds no slice that can be read.

    The facts are ``series`` (what its slices share and tells series apart), ``storage`` (how its pixels are written),
    ``offset`` (of its pixels, in bytes) and ``slices`` (one mapping for each frame).
    """
    try:
        with (root / file.path).open("rb", buffering=0) as stream:
            return _facts(stream, os.fstat(stream.fileno()).st_size)
    except DataError as error:
        return Skipped(file.path, str(error))
    except IsADirectoryError:
        return Skipped(file.path, "a folder that cannot be listed")
    except OSError as error:
        return Skipped(file.path, f"cannot be opened: {error.strerror}", retry=True)


def traits(root: Path, volume: Volume) -> dict[str, str]:
    """Return manufacturer and convolution kernel of a volume, as far as its first file's header gives them."""
    found = texts(root / volume.source(0), frozenset(_TRAITS))
    return {name: known(found[tag]) for tag, (name, known) in _TRAITS.items() if found.get(tag)}


def texts(path: Path, tags: frozenset[int]) -> Mapping[int, str]:
    """Return the values of top-level text elements of a file, {} where it is no DICOM file or cannot be read."""
    try:
        with path.open("rb", buffering=0) as stream:
            header = read_header(stream, os.fstat(stream.fileno()).st_size, tags)
    except (DataError, OSError):
        return {}
    return {tag: _text(value) for tag, value in header.values.items()}


def _text(value: bytes) -> str:
    """A value as it stands. Identifiers only need to be equal, so no character set."""
    return value.decode("latin-1").strip(" \0\r\n\t")


def _decimals(text: str) -> list[float]:
    """Read decimal numbers, which may have a decimal comma. Raises ``ValueError``."""
    return [float(part) for part in text.replace(",", ".").split("\\")]


def _facts(stream: BinaryIO, size: int) -> dict[str, Any]:
    header = read_header(stream, size, _WANTED)
    values = _Values({_KEYWORDS[tag]: value for tag, value in header.values.items()}, header.coding)
    if values.text("MediaStorageSOPClassUID") == _DICOMDIR:
        raise DataError("DICOMDIR: a directory of other files")
    if header.pixels_at is None:
        raise DataError(f"no pixel data (modality {known_modality(values.code('Modality'))})")
    storage = _storage(values, header.syntax)
    _check_pixels(stream, header, values, storage)
    frames = list(_frames(values))
    if not frames or (len(frames) > 1 and len(frames) != storage["frames"]):
        raise DataError(f"damaged header: {storage['frames']} frames, but positions for {len(frames)}")
    ends = _ends(stream, header, storage, _padding(frames[0], storage)) if _rescale_type(frames[0]) == "US" else None
    return {
        "series": _series(frames[0]),
        "storage": storage,
        "offset": header.pixels_at,
        "slices": [_slice(frame, storage, ends) for frame in frames],
    }


class _Values:
    """Decodes element values by keyword. What is not as the standard says is noted, or a ``DataError`` if needed."""

    def __init__(self, raw: dict[str, bytes], coding: Coding, notes: Sequence[str] = ()) -> None:
        self.raw = raw
        self.coding = coding
        self.notes = list(notes)

    def text(self, keyword: str) -> str:
        """Return the value as it stands, "" where absent."""
        raw = self.raw.get(keyword)
        return _text(raw) if raw else ""

    def code(self, keyword: str) -> str:
        """Return a code string, "unknown" where it is none."""
        text = self.text(keyword).upper()
        return text if _CODE.fullmatch(text) else "unknown"

    def numbers(self, keyword: str, count: int) -> list[float] | None:
        """Return ``count`` decimal numbers, None where absent. One may be written twice."""
        text = self.text(keyword).rstrip("\\ ")
        if not text:
            return None
        try:
            numbers = _decimals(text)
        except ValueError:
            raise DataError(f"damaged header: {keyword} is not a number") from None
        if count == 1 < len(numbers) and len(set(numbers)) == 1:
            del numbers[1:]
            self.notes.append(f"{keyword} is given twice, with the same value")
        if len(numbers) != count or not _are_plausible(numbers):
            raise DataError(f"damaged header: {keyword} must be {count} numbers up to {_FARTHEST:.0f}")
        return numbers

    def number(self, keyword: str) -> float | None:
        """Return one decimal number, None where absent."""
        numbers = self.numbers(keyword, 1)
        return numbers[0] if numbers else None

    def known(self, keyword: str, count: int) -> list[float] | None:
        """Return ``count`` decimal numbers that a slice can do without, None where they are absent or damaged."""
        text = self.text(keyword)
        try:
            numbers = _decimals(text) if text else []
        except ValueError:
            numbers = []
        if text and (len(numbers) != count or not _are_plausible(numbers)):
            self.notes.append(f"{keyword} is damaged, so it is unknown")
            return None
        return numbers or None

    def mark(self, keyword: str) -> float | None:
        """Return a number, decimal or binary, that only tells slices apart; None where absent or damaged."""
        raw = self.raw.get(keyword)
        if not raw:
            return None
        try:
            if len(raw) in (4, 8) and not _PLAIN.fullmatch(raw.rstrip(b"\0 ")):
                value = float(struct.unpack(self.coding.order + {4: "f", 8: "d"}[len(raw)], raw)[0])
            else:
                (value,) = _decimals(_text(raw))
        except ValueError:
            return None
        return round(value, 3) if math.isfinite(value) else None

    def indices(self, keyword: str) -> list[int] | None:
        """Return 32-bit unsigned numbers, None where absent."""
        raw = self.raw.get(keyword)
        if not raw:
            return None
        return list(struct.unpack(f"{self.coding.order}{len(raw) // 4}L", raw[: len(raw) // 4 * 4])) or None

    def word(self, keyword: str, default: int | None = None) -> int:
        """Return a 16-bit unsigned number."""
        raw = self.raw.get(keyword, b"")
        if len(raw) < 2:
            if default is None:
                raise DataError(f"damaged header: no {keyword}")
            return default
        return int(struct.unpack_from(self.coding.order + "H", raw)[0])


def _are_plausible(numbers: list[float]) -> bool:
    return all(abs(number) <= _FARTHEST for number in numbers)


def _series(values: _Values) -> dict[str, Any]:
    """Return what tells a series from others and what filters ask for."""
    return {
        "patient": values.text("PatientID"),
        "study": values.text("StudyInstanceUID"),
        "frame_of_reference": values.text("FrameOfReferenceUID"),
        "series": values.text("SeriesInstanceUID"),
        "label": _digest(values.text("SeriesNumber"), values.text("SeriesDescription")),
        "event": _digest(values.text("IrradiationEventUID")),
        "modality": known_modality(values.code("Modality")),
        "sop_class": values.text("SOPClassUID") or values.text("MediaStorageSOPClassUID"),
        "image_type": values.text("ImageType").upper().split("\\"),
        "body_part": values.text("BodyPartExamined"),
    }


def _storage(values: _Values, syntax: str) -> dict[str, Any]:
    """Return how the pixels are written (PS3.3 section C.7.6.3.1)."""
    bits = values.word("BitsAllocated")
    stored = values.word("BitsStored", bits)
    high = values.word("HighBit", stored - 1)
    if 0 < stored <= bits and not stored <= high + 1 <= bits:
        high = stored - 1
        values.notes.append("HighBit is damaged, so it is unknown")
    storage: dict[str, Any] = {
        "syntax": syntax,
        "order": values.coding.order,
        "rows": values.word("Rows"),
        "columns": values.word("Columns"),
        "frames": _count_of_frames(values),
        "samples": values.word("SamplesPerPixel", 1),
        "photometric": values.code("PhotometricInterpretation"),
        "bits": bits,
        "stored": stored,
        "high": high,
        "signed": bool(values.word("PixelRepresentation", 0)),
    }
    if not 0 < stored <= storage["high"] + 1 <= bits <= 64:
        raise DataError("damaged header: bits stored, high bit and bits allocated contradict each other")
    if min(storage["rows"], storage["columns"], storage["frames"], storage["samples"]) < 1:
        raise DataError("damaged header: an image without pixels")
    if storage["rows"] * storage["columns"] > MOST_PIXELS:
        raise DataError(f"header claims {storage['rows']} x {storage['columns']} pixels, more than any CT has")
    return storage


def _count_of_frames(values: _Values) -> int:
    frames = values.known("NumberOfFrames", 1)
    if frames and frames[0] < 1:
        values.notes.append(f"NumberOfFrames is {frames[0]:g}, taken as 1")
    return max(int(frames[0]), 1) if frames else 1


def _check_pixels(stream: BinaryIO, header: Header, values: _Values, storage: Mapping[str, Any]) -> None:
    """Raise ``DataError`` where the file cannot hold the pixels that its header claims."""
    assert header.pixels_at is not None
    pixels = storage["rows"] * storage["columns"] * storage["samples"] * storage["frames"]
    needed = (pixels * storage["bits"] + 7) // 8
    if reason := too_large(needed):
        raise DataError(reason)
    if header.syntax in UNCOMPRESSED:
        there = min(header.pixels_length, max(header.size - header.pixels_at, 0))
        if header.pixels_length == UNDEFINED_LENGTH:
            raise DataError("damaged header: uncompressed pixels of undefined length")
        if header.syntax == DEFLATED:
            end = min(header.size, header.pixels_at + needed)
            there = max(0, sum(map(len, inflate(stream, end))) - header.pixels_at)
        if there < needed:
            raise DataError(f"truncated: {there:,} of {needed:,} bytes of pixels are there")
        if storage["frames"] == 1 and there >= 2 * needed and values.text("NumberOfFrames") not in ("", "1"):
            raise DataError("damaged header: more pixels than the one frame of NumberOfFrames")
        return
    if header.pixels_length != UNDEFINED_LENGTH:
        raise DataError("damaged header: compressed pixels of defined length")
    fragments = list(itertools.islice(_fragments(stream, header.pixels_at, header.size), 1, _MOST_FRAGMENTS + 1))
    if len(fragments) < storage["frames"]:
        raise DataError(f"truncated: {len(fragments):,} fragments for {storage['frames']:,} compressed frames")
    if needed > sum(fragments) * _MOST_COMPRESSION:
        raise DataError(f"header claims {needed:,} bytes of pixels, compressed to {sum(fragments):,}")
    if reason := too_large(sum(fragments)):
        raise DataError(reason)


def _fragments(stream: BinaryIO, start: int, size: int) -> Iterator[int]:
    """Yield the bytes of the offset table and of each fragment of encapsulated pixels (PS3.5 section A.4)."""
    position = start
    while position + 8 <= size:
        stream.seek(position)
        group, element, length = struct.unpack("<HHL", stream.read(8).ljust(8, b"\0"))
        if (group, element) != (0xFFFE, 0xE000):
            return
        position += 8 + length
        if position > size:
            raise DataError("truncated: the last fragment of compressed pixels is incomplete")
        yield length


def _frames(values: _Values) -> Iterator[_Values]:
    """Yield the values that hold for each frame: its own functional groups go before shared ones and those before all.

    An image without functional groups per frame (PS3.3 section C.7.6.16) yields once.
    """
    shared = next(_groups(values, "SharedFunctionalGroupsSequence"), {})
    whole = _Values(values.raw | shared, values.coding, values.notes)
    if "PerFrameFunctionalGroupsSequence" not in values.raw:
        yield whole
    for frame in _groups(values, "PerFrameFunctionalGroupsSequence"):
        yield _Values(whole.raw | frame, values.coding, values.notes)


def _groups(values: _Values, keyword: str) -> Iterator[dict[str, bytes]]:
    """Yield, for each item of a sequence of functional groups, the wanted values that its groups hold."""
    for found in _functional_groups(values.raw.get(keyword, b""), values.coding, _FUNCTIONAL_GROUPS, _WANTED):
        yield {_KEYWORDS[tag]: value for tag, value in found.items()}


def _functional_groups(
    data: bytes, coding: Coding, groups: Container[int], wanted: Container[int]
) -> Iterator[dict[int, bytes]]:
    for first, last in items(data, 0, len(data), coding):
        found: dict[int, bytes] = {}
        for group, start, stop in elements(data, first, last, coding):
            if group in groups:
                for inner_first, inner_last in items(data, start, stop, coding):
                    for tag, a, b in elements(data, inner_first, inner_last, coding):
                        if tag in wanted:
                            found[tag] = data[a:b]
        yield found


def every_element(path: Path, longest: int) -> list[dict[int, bytes]]:
    """Return the values of up to ``longest`` bytes of all elements of a file by tag, for each of its frames.

    Values in functional groups go before those of the whole file. [] where it cannot be read.
    """
    frames: list[dict[int, bytes]] = [{}]
    try:
        with path.open("rb", buffering=0) as stream:
            header = read_header(stream, os.fstat(stream.fileno()).st_size, _EVERY_TAG)
        if data := header.values.get(_PER_FRAME):
            frames = list(_functional_groups(data, header.coding, _EVERY_TAG, _EVERY_TAG))
    except (DataError, OSError, struct.error):
        return []
    whole = {tag: value for tag, value in header.values.items() if len(value) <= longest}
    return [whole | {tag: value for tag, value in frame.items() if len(value) <= longest} for frame in frames]


def _slice(values: _Values, storage: Mapping[str, Any], ends: list[float] | None) -> dict[str, Any]:
    """Return where one slice lies and what its stored values mean; ``ends`` are those of the stored values."""
    slope, intercept = values.number("RescaleSlope"), values.number("RescaleIntercept")
    if slope == 0:
        raise DataError("damaged header: RescaleSlope is 0")
    thickness = values.known("SliceThickness", 1)
    return {
        "position": values.numbers("ImagePositionPatient", 3),
        "orientation": _orientation(values),
        "spacing": _spacing(values),
        "thickness": thickness[0] if thickness else None,
        "marks": {name: value for name, value in _marks(values) if value not in (None, "")},
        "slope": slope,
        "intercept": intercept,
        "rescale_type": _rescale_type(values),
        "ends": [(1.0 if slope is None else slope) * end + (intercept or 0.0) for end in ends] if ends else None,
        "padding": _padding(values, storage),
        "notes": list(dict.fromkeys(values.notes)),
    }


def _rescale_type(values: _Values) -> str:
    """Return what rescaled values are: HU, US where the header leaves it open, or other."""
    text = "".join(filter(str.isalpha, values.text("RescaleType").upper()))
    if text in ("", "HU", "HUS", "HUHU") or "HOUN" in text or "SFIELD" in text:
        return "HU"
    return "US" if text in ("US", "USUS", "UNSPECIFIED", "UNKNOWN", "NONE") else "other"


def _ends(
    stream: BinaryIO, header: Header, storage: Mapping[str, Any], padding: list[int] | None
) -> list[float] | None:
    """Return the first and the last percentile of a file's stored values, None where they are compressed."""
    if header.syntax not in UNCOMPRESSED - {DEFLATED} or storage["bits"] not in (8, 16):
        return None
    stream.seek(header.pixels_at or 0)
    pixels = storage["rows"] * storage["columns"] * storage["frames"]
    dtype = np.dtype(f"{storage['order']}{'i' if storage['signed'] else 'u'}{storage['bits'] // 8}")
    stored = np.frombuffer(stream.read(pixels * dtype.itemsize), dtype)
    if padding:
        inside = stored[(stored < padding[0]) | (stored > padding[1])]
        stored = inside if inside.size else stored
    lowest, highest = np.percentile(stored, (1, 99))
    return [float(lowest), float(highest)]


def _orientation(values: _Values) -> list[float] | None:
    """Return the direction cosines of the rows and of the columns (PS3.3 section C.7.6.2.1.1)."""
    cosines = values.numbers("ImageOrientationPatient", 6)
    if cosines is None:
        return None
    a, b = cosines[:3], cosines[3:]
    skew = max(abs(math.hypot(*a) - 1), abs(math.hypot(*b) - 1), abs(sum(map(operator.mul, a, b))))
    if skew <= _SKEWED[0]:
        return cosines
    if skew > _SKEWED[1]:
        raise DataError("damaged header: ImageOrientationPatient must be two perpendicular unit vectors")
    values.notes.append(PUT_RIGHT)
    row = np.array(a) / math.hypot(*a)
    column = np.array(b) - (row @ b) * row
    return [*row.tolist(), *(column / np.linalg.norm(column)).tolist()]


def _spacing(values: _Values) -> list[float] | None:
    spacing = values.known("PixelSpacing", 2)
    if spacing and min(spacing) <= 0:
        values.notes.append("PixelSpacing is damaged, so it is unknown")
        return None
    return spacing


def _marks(values: _Values) -> Iterator[tuple[str, Any]]:
    """Yield what may tell the scans of one series apart, as ``dicom_slices.Marks`` has it."""
    yield "phase", _first(map(values.mark, ("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase")))
    yield "delay", _first(map(values.mark, ("NominalCardiacTriggerDelayTime", "TriggerTime")))
    index = values.indices("TemporalPositionIndex")
    yield "temporal", float(index[0]) if index else values.mark("TemporalPositionIdentifier")
    yield "offset", values.mark("TemporalPositionTimeOffset")
    yield "voltage", values.mark("KVP")
    yield "energy", _energy(values)
    yield "kernel", values.text("ConvolutionKernel")
    yield "frame_type", values.text("FrameType").upper()
    comments = values.text("ImageComments") + values.text("FrameComments")
    yield "comment", comments and _digest(comments)
    yield "stack", values.text("StackID")
    yield "dimensions", values.indices("DimensionIndexValues")
    frame = values.word("FrameAcquisitionNumber", -1)
    yield "acquisition", values.mark("AcquisitionNumber") if frame < 0 else float(frame)
    yield "acquired", _acquired(values)
    yield "content", _seconds(values.text("ContentTime"))
    yield "number", values.mark("InstanceNumber")


def _first(found: Iterable[float | None]) -> float | None:
    return next((value for value in found if value is not None), None)


def _energy(values: _Values) -> float | None:
    """Return the energy of a virtual monoenergetic image, keV, which most scanners write into some text."""
    texts = map(values.text, ("SeriesDescription", "ImageComments", "ImageType", "FrameType", "FrameComments"))
    found = _ENERGY.search("\n".join(texts))
    return values.mark("MonoenergeticEnergyEquivalent") or (float(found[1]) if found else None)


def _acquired(values: _Values) -> float | None:
    """Return when a slice was acquired, in seconds after the midnight before its study: no date lies in the cache."""
    moment = values.text("FrameAcquisitionDateTime") or values.text("AcquisitionDateTime")
    day, time = (moment[:8], moment[8:]) if moment else map(values.text, ("AcquisitionDate", "AcquisitionTime"))
    seconds, begun = _seconds(time), values.text("StudyDate")
    if seconds is None or day == begun:
        return seconds
    try:
        return seconds + _DAY * (datetime.strptime(day, "%Y%m%d") - datetime.strptime(begun, "%Y%m%d")).days
    except ValueError:
        return seconds


def _seconds(time: str) -> float | None:
    """Return the seconds after midnight of a time of day (PS3.5 section 6.2: TM), None where it is none."""
    found = _TIME.fullmatch(time)
    return float(found[1]) * 3600 + float(found[2]) * 60 + float(found[3]) if found else None


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
