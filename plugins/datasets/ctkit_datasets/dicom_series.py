"""Arranges the headers of DICOM files into volumes: one series, one plane and matrix, one pass, in spatial order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit_datasets.dicom_geometry import Plane, Turn, describe_spacing, same_place, tilt
from ctkit_datasets.filters import NOT_SLICES, SeriesParams, chosen, matches, unwanted
from ctkit_datasets.packed_groups import PackedGroups

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LEAST_PASS = 3  # slices, on average
_REMEMBERED = 1000  # parts that slices share
_CLOSE = 0.01  # direction cosines differ by less, and pixel spacings by less than this share, within one volume


def arrange_series(
    headers: Iterable[tuple[SourceFile, Mapping[str, Any]]], params: SeriesParams
) -> Iterator[Volume | Skipped]:
    """Yield the volumes that files with these facts (``dicom_header.inspect_file``) make up, and every other file.

    A volume's slices ascend along their normal, to the patient's head where they are axial. Volumes come in the order
    of their series' first file.
    """
    groups: PackedGroups[tuple[str, str], Slice] = PackedGroups()
    several: set[str] = set()
    maker = SliceMaker()
    for file, facts in headers:
        slices = maker.slices(file, facts)
        reason = next(_reasons(slices, params), "")
        if reason:
            yield Skipped(file.path, reason)
            continue
        groups.add(_series_of(slices[0]), slices)
        if len(slices) > 1:
            several.add(file.path)
    stacks = _stacks(groups, params)
    if params.same_scan == "largest":
        stacks = _largest(stacks)
    volumes = (found if isinstance(found, Skipped) else found.volume() for found in stacks)
    yield from _accounted(chosen(volumes, params), several)


def _accounted(found: Iterable[Volume | Skipped], several: set[str]) -> Iterator[Volume | Skipped]:
    """Yield what was found, but skip the files of ``several`` slices once and only where no volume uses them."""
    used: set[str] = set()
    left: dict[str, Skipped] = {}
    for one in found:
        if isinstance(one, Volume):
            used.update(file.path for file in one.files if file.path in several)
            yield one
        elif one.source in several:
            left[one.source] = one
        else:
            yield one
    yield from (skipped for path, skipped in left.items() if path not in used)


class Series(NamedTuple):
    """What the slices of a series share."""

    patient: str
    study: str
    series: str  #: SeriesInstanceUID
    label: str  #: stands for it where it is empty
    scan: str  #: equal for reconstructions of one scan
    modality: str
    sop_class: str
    image_type: tuple[str, ...]
    body_part: str
    kernel: str


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
    acquisition: str
    moment: str


@dataclass(frozen=True)
class Stack:
    """Parallel slices in the order of their heights: a volume to be."""

    key: str
    plane: Plane
    slices: list[Slice]
    duplicates: int  #: slices left out because another one lies at the same height

    @property
    def patient(self) -> str:
        """PatientID, or what comes nearest to it."""
        first = self.slices[0]
        return first.series.patient or first.series.study or _folder(first.file) or "unknown"

    @property
    def ends(self) -> tuple[float, float]:
        """Heights of the first and the last slice, mm."""
        return self.plane.height(self.slices[0].position), self.plane.height(self.slices[-1].position)

    def volume(self) -> Volume:
        """Return the volume, with what a reader of it should know."""
        first = self.slices[0]
        turn, spacing = self.plane.turn, first.spacing or (None, None)
        shape = (first.encoding.rows, first.encoding.columns)
        heights = np.array([self.plane.height(slice_.position) for slice_ in self.slices])
        between, notes = describe_spacing(heights)
        return Volume(
            key=self.key,
            patient=self.patient,
            rows=shape[turn.transpose],
            columns=shape[not turn.transpose],
            spacing=(spacing[not turn.transpose], spacing[turn.transpose], between),
            notes=(*notes, *self._notes()),
            **sources(self.slices, turn),
        )

    def _notes(self) -> Iterator[str]:
        angle = tilt(np.array([slice_.position for slice_ in self.slices]), self.plane.normal)
        if angle:
            yield f"gantry tilt {angle:.1f} degrees"
        thicknesses = {slice_.thickness for slice_ in self.slices if slice_.thickness}
        if len(thicknesses) > 1:
            yield f"slice thickness {min(thicknesses):g} to {max(thicknesses):g} mm"
        if self.plane.turn:
            yield "stored turned or mirrored, put upright"
        if self.duplicates:
            yield f"duplicates left out: {self.duplicates}"
        if not self.slices[0].encoding.hounsfield:
            yield "values are not in Hounsfield units"
        if not self.slices[0].series.patient:
            yield "no patient id in the header"


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


# --- from facts to slices -----------------------------------------------------------------------------------------


class SliceMaker:
    """Makes slices from facts, with one object for equal parts of slices that come soon after each other."""

    def __init__(self) -> None:
        self._one = lru_cache(maxsize=_REMEMBERED)(lambda value: value)

    def slices(self, file: SourceFile, facts: Mapping[str, Any]) -> list[Slice]:
        """Return the slices of one file, at least one."""
        series = self._one(Series(**facts["series"] | {"image_type": tuple(facts["series"]["image_type"])}))
        return [
            Slice(
                file,
                frame,
                facts["offset"],
                series,
                self._one(_encoding(facts["storage"], found, series.modality)),
                tuple(found["position"] or ()),
                self._one(tuple(found["orientation"] or ())),
                self._one(tuple(found["spacing"] or ())),
                found["thickness"],
                found["acquisition"],
                found["moment"],
            )
            for frame, found in enumerate(facts["slices"])
        ]


def _encoding(storage: Mapping[str, Any], found: Mapping[str, Any], modality: str) -> Encoding:
    """Join how a file's pixels are written with what the stored values of one of its slices mean."""
    hounsfield = modality == "CT" and found["intercept"] is not None and found["rescale_type"] == "HU"
    return Encoding(
        **storage,
        hounsfield=hounsfield,
        slope=1.0 if found["slope"] is None else found["slope"],
        intercept=found["intercept"],
        padding=tuple(found["padding"]) if found["padding"] else None,
    )


def _reasons(slices: list[Slice], params: SeriesParams) -> Iterator[str]:
    """Yield why the slices of one file are not used."""
    series, encoding = slices[0].series, slices[0].encoding
    if reason := unwanted(slices[0].file.path, params):
        yield reason
    if series.sop_class.startswith(_SECONDARY_CAPTURE):
        yield "secondary capture"
    if series.modality not in params.modality:
        yield f"modality {series.modality}"
    yield from _wrong_types(series.image_type, params.image_type, params.not_image_type)
    if encoding.samples != 1 or not encoding.photometric.startswith("MONOCHROME"):
        yield "colour image"
    if encoding.bits not in (8, 16):
        yield f"{encoding.bits} bits a pixel; 8 and 16 can be read"
    if len(slices) != encoding.frames:
        yield "several frames without a position each"
    if not all(slice_.position and slice_.orientation for slice_ in slices):
        yield "no image position or orientation"
    if params.body_part and not matches(series.body_part, params.body_part):
        yield "body part not asked for"
    if params.kernel and not matches(series.kernel, params.kernel):
        yield "kernel not asked for"
    if params.thickness:
        least, greatest = params.thickness
        thickness = slices[0].thickness
        if thickness is None or not least <= thickness <= greatest:
            yield "slice thickness not asked for"


@lru_cache
def _wrong_types(found: tuple[str, ...], wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return what speaks against the values of ImageType, which are few for all files together."""
    present = [value for value in unwanted if value.upper() in found]
    absent = [value for value in wanted if value.upper() not in found]
    return (
        *(f"{NOT_SLICES.get(value.upper(), 'left out')} (image type {value})" for value in present),
        *(f"image type is not {value}" for value in absent),
    )


def _folder(file: SourceFile) -> str:
    return file.path.rpartition("/")[0]


def _series_of(slice_: Slice) -> tuple[str, str]:
    """Return what names a slice's series. Files without SeriesInstanceUID belong together within their folder."""
    series = slice_.series
    return series.patient, series.series or f"{_folder(slice_.file)}/{series.label}"


# --- from series to stacks ----------------------------------------------------------------------------------------


def _stacks(groups: PackedGroups[tuple[str, str], Slice], params: SeriesParams) -> Iterator[Stack | Skipped]:
    """Cut each series into stacks; skip the slices that belong to none."""
    series = Counter(name for _, name in groups)
    for patient, name in groups:
        key = name if series[name] == 1 else f"{patient}/{name}"
        for number, (plane, part) in enumerate(_parts(groups.take((patient, name)))):
            if params.orientation not in ("any", plane.name):
                yield from _left(part, f"{plane.name} slices")
                continue
            part.sort(key=lambda slice_: (plane.height(slice_.position), slice_.file.path, slice_.frame))
            kept, doubles = _one_at_each_height(part, plane)
            yield from _left(doubles, "duplicate: another slice of its series lies at the same position")
            yield Stack(f"{key}/{number + 1}" if number else key, plane, kept, len(doubles))


def _left(slices: Iterable[Slice], reason: str) -> Iterator[Skipped]:
    return (Skipped(slice_.file.path, reason) for slice_ in slices)


def _parts(slices: list[Slice]) -> Iterator[tuple[Plane, list[Slice]]]:
    """Cut a series where orientation, matrix, pixel spacing or unit change, and into passes over the same heights."""
    alike: list[list[Slice]] = []
    for slice_ in slices:
        for part in alike:
            if _are_alike(slice_, part[0]):
                part.append(slice_)
                break
        else:
            alike.append([slice_])
    for part in alike:
        plane = Plane.of(part[0].orientation)
        for pass_ in _passes(part, plane):
            yield plane, pass_


def _are_alike(a: Slice, b: Slice) -> bool:
    """Whether two slices can lie in one volume."""
    matrix = (a.encoding.rows, a.encoding.columns) == (b.encoding.rows, b.encoding.columns)
    return (
        matrix
        and a.encoding.hounsfield == b.encoding.hounsfield
        and (a.orientation == b.orientation or _are_close(a.orientation, b.orientation, _CLOSE))
        and (a.spacing == b.spacing or _are_close(a.spacing, b.spacing, _CLOSE * min(b.spacing, default=0)))
    )


def _are_close(a: tuple[float, ...], b: tuple[float, ...], tolerance: float) -> bool:
    return len(a) == len(b) and all(abs(one - other) < tolerance for one, other in zip(a, b, strict=True))


def _passes(slices: list[Slice], plane: Plane) -> list[list[Slice]]:
    """Cut slices into passes (fields of view, acquisitions, phases) where heights repeat and passes explain it.

    They explain it where most repeats lie in different passes, and where they do not shatter the slices: there are
    scanners that count an acquisition for each slice.
    """
    repeats = _repeats(slices, plane)
    ways: tuple[Callable[[Slice], Hashable], ...] = (
        lambda slice_: plane.place(slice_.position),
        lambda slice_: slice_.acquisition,
        lambda slice_: slice_.moment,
    )
    for way in ways if repeats else ():
        passes: dict[Hashable, list[Slice]] = defaultdict(list)
        for slice_ in slices:
            passes[way(slice_)].append(slice_)
        inside = sum(_repeats(part, plane) for part in passes.values())
        if 2 * inside <= repeats and len(passes) * _LEAST_PASS <= len(slices):
            return list(passes.values())
    return [slices]


def _repeats(slices: list[Slice], plane: Plane) -> int:
    """Return how many slices lie at a height where there is one already."""
    heights = sorted(plane.height(slice_.position) for slice_ in slices)
    return sum(map(same_place, heights, heights[1:]))


def _one_at_each_height(slices: list[Slice], plane: Plane) -> tuple[list[Slice], list[Slice]]:
    """Return the first of the slices at each height, and the others. Slices are in order."""
    kept: list[Slice] = []
    doubles: list[Slice] = []
    for slice_ in slices:
        if kept and same_place(plane.height(kept[-1].position), plane.height(slice_.position)):
            doubles.append(slice_)
        else:
            kept.append(slice_)
    return kept, doubles


# --- from stacks to volumes ---------------------------------------------------------------------------------------


def _largest(stacks: Iterator[Stack | Skipped]) -> Iterator[Stack | Skipped]:
    """Yield the largest stack of each scan only."""
    outlines: list[_Outline] = []
    slices: PackedGroups[int, Slice] = PackedGroups()
    for stack in stacks:
        if isinstance(stack, Skipped):
            yield stack
        else:
            slices.add(len(outlines), stack.slices)
            outlines.append(_Outline(replace(stack, slices=[]), len(stack.slices), _scan_of(stack), stack.ends))
    largest = _without_rivals(outlines)
    for number in slices:
        if number not in largest:
            yield from _left(slices.take(number), "another reconstruction or copy of a scan that is used")
    for number in slices:
        yield replace(outlines[number].empty, slices=slices.take(number))


class _Outline(NamedTuple):
    """A stack without its slices."""

    empty: Stack
    size: int  #: slices
    scan: Hashable  #: equal for reconstructions of one scan
    ends: tuple[float, float]


def _without_rivals(outlines: list[_Outline]) -> set[int]:
    """Return the numbers of the stacks that no larger one of their scan overlaps."""
    kept: dict[Hashable, list[int]] = defaultdict(list)
    for number in sorted(range(len(outlines)), key=lambda number: -outlines[number].size):
        rivals = kept[outlines[number].scan]
        if not any(_overlap(outlines[number].ends, outlines[rival].ends) for rival in rivals):
            rivals.append(number)
    return {number for numbers in kept.values() for number in numbers}


def _scan_of(stack: Stack) -> Hashable:
    """Return what reconstructions of one scan have in common."""
    acquisitions = {slice_.acquisition for slice_ in stack.slices}
    acquisition = acquisitions.pop() if len(acquisitions) == 1 else ""
    return stack.patient, stack.slices[0].series.scan, acquisition, stack.plane.name


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether two ranges of heights are the same but for a tenth of the shorter one."""
    shorter = min(a[1] - a[0], b[1] - b[0])
    return min(a[1], b[1]) - max(a[0], b[0]) >= 0.9 * shorter
