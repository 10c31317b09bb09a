"""Slices as the headers of DICOM files describe them: whose they are, where they lie, how their pixels are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from statistics import median
from typing import Any, NamedTuple

from ctkit.contracts import SourceFile
from ctkit_datasets.dicom_geometry import Turn
from ctkit_datasets.filters import Unit

_REMEMBERED = 1000  # parts that slices share
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"  # SOP classes of CT begin with it
_OFFSET = -500.0  # an intercept of this or less is the offset of Hounsfield units
_HIGHEST_AIR = -200.0  # HU; a series of CT holds air or lung below it
_DENSEST = 4000.0  # HU; in most slices no more than a hundredth is denser


class Series(NamedTuple):
    """What the slices of a series share."""

    patient: str
    study: str
    frame_of_reference: str
    series: str  #: SeriesInstanceUID
    label: str  #: digest of its number and description; stands for it where it is empty
    event: str  #: digest of the irradiation event
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    body_part: str
    respelled: bool = False  #: the header spells the patient's id otherwise, in capitals or blanks


class Encoding(NamedTuple):
    """How pixels are written, and what a stored value means."""

    syntax: str  #: transfer syntax UID
    order: str  #: "<" or ">"
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits: int  #: allocated
    stored: int  #: bits
    high: int  #: number of the highest bit stored
    signed: bool
    hounsfield: bool
    slope: float
    intercept: float | None
    padding: tuple[int, int] | None  #: lowest and highest stored value that is no measurement


class Marks(NamedTuple):
    """What may tell the scans of one series apart; None where the header does not say it."""

    phase: float | None = None  #: of the heart or of breathing, percent
    delay: float | None = None  #: after the R wave, ms
    temporal: float | None = None  #: number of a temporal position
    offset: float | None = None  #: of a temporal position, s
    voltage: float | None = None  #: of the tube, kV
    energy: float | None = None  #: of virtual monoenergetic images, keV
    kernel: str = ""
    frame_type: str | None = None
    comment: str | None = None  #: digest
    stack: str | None = None
    dimensions: tuple[int, ...] | None = None  #: index of a frame along each dimension
    acquisition: float | None = None  #: number
    acquired: float | None = None  #: s after the study's midnight
    content: float | None = None  #: time of the image, s after midnight
    number: float | None = None  #: of the instance


class Slice(NamedTuple):
    """One slice as its header describes it."""

    file: SourceFile
    frame: int
    offset: int  #: of the file's pixels, bytes
    series: Series
    encoding: Encoding
    position: tuple[float, ...]  #: of the centre of the first pixel, mm; () where unknown
    orientation: tuple[float, ...]  #: direction cosines of a row and of a column; () where unknown
    spacing: tuple[float, ...]  #: of rows, of columns, mm; () where unknown
    thickness: float | None  #: mm
    marks: Marks
    notes: tuple[str, ...]  #: on what is wrong in its header
    doubt: tuple[float, float] | None  #: lowest and highest percentile, where the header leaves the unit open

    @property
    def folder(self) -> str:
        """Folder of its file."""
        return self.file.path.rpartition("/")[0]


def sources(slices: Sequence[Slice], turn: Turn) -> dict[str, Any]:
    """Return the fields of ``Volume`` that say where its slices come from and how they are read."""
    files = {slice_.file.path: (slice_.file, slice_.offset) for slice_ in slices}
    numbers = {path: number for number, path in enumerate(files)}
    encodings = {encoding: number for number, encoding in enumerate(dict.fromkeys(s.encoding for s in slices))}
    return {
        "files": tuple(file for file, _ in files.values()),
        "slices": tuple((numbers[slice_.file.path], slice_.frame) for slice_ in slices),
        "details": {
            "encodings": [encoding._asdict() for encoding in encodings],
            "encoding": [encodings[slice_.encoding] for slice_ in slices],
            "offsets": [offset for _, offset in files.values()],
            "turn": asdict(turn),
        },
    }


class SliceMaker:
    """Makes slices from facts, with one object for equal parts of slices that come soon after each other."""

    def __init__(self, unit: Unit = "auto") -> None:
        self._unit = unit
        self._one = lru_cache(maxsize=_REMEMBERED)(lambda value: value)
        self._patients: dict[str, str] = {}

    def slices(self, file: SourceFile, facts: Mapping[str, Any]) -> list[Slice]:
        """Return the slices of one file, at least one."""
        series = self._one(self._series(facts["series"]))
        return [self._slice(file, frame, facts, series) for frame in range(len(facts["slices"]))]

    def _series(self, found: Mapping[str, Any]) -> Series:
        """Spell the patient's id as it was first, as capitals and blanks are often lost on the way."""
        spelled = found["patient"]
        patient = self._patients.setdefault("".join(spelled.split()).casefold(), spelled)
        changes = {"patient": patient, "respelled": patient != spelled, "image_type": tuple(found["image_type"])}
        return Series(**{**found, **changes})

    def _slice(self, file: SourceFile, frame: int, facts: Mapping[str, Any], series: Series) -> Slice:
        found = facts["slices"][frame]
        hounsfield = self._is_hounsfield(found, series)
        marks = found["marks"]
        encoding = Encoding(
            **facts["storage"],
            hounsfield=bool(hounsfield),
            slope=1.0 if found["slope"] is None else found["slope"],
            intercept=found["intercept"],
            padding=tuple(found["padding"]) if found["padding"] else None,
        )
        return Slice(
            file,
            frame,
            facts["offset"],
            series,
            self._one(encoding),
            tuple(found["position"] or ()),
            self._one(tuple(found["orientation"] or ())),
            self._one(tuple(found["spacing"] or ())),
            found["thickness"],
            Marks(**marks | ({"dimensions": tuple(marks["dimensions"])} if "dimensions" in marks else {})),
            self._one(tuple(found["notes"])),
            tuple(found["ends"] or [found["intercept"]] * 2) if hounsfield is None else None,
        )

    def _is_hounsfield(self, found: Mapping[str, Any], series: Series) -> bool | None:
        """Whether a slice is in Hounsfield units (PS3.3 section C.11.1.1.2); None where its values must tell.

        What GDCM writes, and with it ITK and SimpleITK, has the type US, unspecified, whatever it was before.
        """
        if self._unit != "auto":
            return self._unit == "HU"
        kind = found["rescale_type"]
        if series.modality != "CT" or found["intercept"] is None:
            return False
        if kind == "HU":
            return True
        return None if kind == "US" and series.sop_class.startswith(_CT_IMAGE) else False


def with_units(slices: list[Slice]) -> list[Slice]:
    """Decide the unit of a series' slices whose headers leave it open: Hounsfield units where their values look it."""
    ends = [slice_.doubt for slice_ in slices if slice_.doubt]
    if not ends:
        return slices
    offset = all((slice_.encoding.intercept or 0.0) <= _OFFSET for slice_ in slices if slice_.doubt)
    lowest, highest = min(low for low, _ in ends), median(high for _, high in ends)  # a few slices may hold metal
    if highest > _DENSEST or not (offset or lowest <= _HIGHEST_AIR):
        return slices
    return [
        slice_._replace(encoding=slice_.encoding._replace(hounsfield=True)) if slice_.doubt else slice_
        for slice_ in slices
    ]
