"""Arranges the headers of DICOM files into volumes: one series, one plane and matrix, one pass, in spatial order."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit_datasets.dicom_geometry import Plane, aslant, describe_spacing
from ctkit_datasets.dicom_header import PUT_RIGHT
from ctkit_datasets.dicom_passes import Pass, passes
from ctkit_datasets.dicom_slices import Slice, SliceMaker, sources, with_units
from ctkit_datasets.dicom_terms import known_kernel
from ctkit_datasets.filters import NOT_SLICES, SeriesParams, chosen, matches, unwanted
from ctkit_datasets.packed_groups import PackedGroups

_log = logging.getLogger(__name__)

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_Name = tuple[str, str, str, str]  # patient, series, study, frame of reference
_LOOSE = 0.1  # of direction cosines that had to be put right
_SCAN = ("acquisition", "phase", "delay", "temporal", "offset")  # marks that differ between scans, if constant in each
_CLOSE = 0.01  # direction cosines differ by less, and pixel spacings by less than this share, within one volume


def arrange_series(
    headers: Iterable[tuple[SourceFile, Mapping[str, Any]]], params: SeriesParams
) -> Iterator[Volume | Skipped]:
    """Yield the volumes that files with these facts (``dicom_header.inspect_file``) make up, and every other file.

    A volume's slices ascend along their normal, to the patient's head where they are axial. Volumes come in the order
    of their series' first file.
    """
    groups: PackedGroups[_Name, Slice] = PackedGroups()
    sizes: Counter[_Name] = Counter()
    several: set[str] = set()
    maker = SliceMaker(params.unit)
    for file, facts in headers:
        slices = maker.slices(file, facts)
        reason = next(_reasons(slices, params), "")
        if reason:
            yield Skipped(file.path, reason)
            continue
        if len(slices) > 1:
            several.add(file.path)
            slices = [slice_ for slice_ in slices if _has_kernel(slice_, params) and _has_thickness(slice_, params)]
            if not slices:
                yield Skipped(file.path, "no frame with the requested kernel and slice thickness")
                continue
        series = slices[0].series  # files without SeriesInstanceUID belong together within their folder
        uid = series.series or f"{slices[0].folder}/{series.label}"
        name = series.patient, uid, series.study, series.frame_of_reference
        groups.add(name, slices)
        sizes[name] += len(slices)
    outlines: dict[str, _Outline] = {}
    found = _volumes(groups, sizes, params, outlines)
    if params.same_scan == "largest":
        found = _largest(found, outlines)
    yield from _accounted(_related(chosen(found, params), outlines), several)
    if mixed := sum(outline.mixed for outline in outlines.values()):
        _log.warning("series in several folders with overlapping heights: see the notes on %d volumes", mixed)


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
        yield "body part not requested"
    if not any(_has_kernel(slice_, params) for slice_ in slices):
        yield "kernel not requested"
    if not any(_has_thickness(slice_, params) for slice_ in slices):
        yield "slice thickness not requested"


def _has_kernel(slice_: Slice, params: SeriesParams) -> bool:
    return not params.kernel or matches(slice_.marks.kernel, params.kernel)


def _has_thickness(slice_: Slice, params: SeriesParams) -> bool:
    if not params.thickness:
        return True
    least, greatest = params.thickness
    return slice_.thickness is not None and least <= slice_.thickness <= greatest


@lru_cache
def _wrong_types(found: tuple[str, ...], wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return what speaks against the values of ImageType, which are few for all files together."""
    present = [value for value in unwanted if value.upper() in found]
    absent = [value for value in wanted if value.upper() not in found]
    return (
        *(f"{NOT_SLICES.get(value.upper(), 'left out')} (image type {value})" for value in present),
        *(f"image type is not {value}" for value in absent),
    )


# --- from series to volumes -----------------------------------------------------------------------------------------


def _volumes(
    groups: PackedGroups[_Name, Slice], sizes: Mapping[_Name, int], params: SeriesParams, outlines: dict[str, _Outline]
) -> Iterator[Volume | Skipped]:
    """Cut each series into volumes, put down the outline of each under its key; skip the slices that belong to none."""
    names: dict[tuple[str, str], list[_Name]] = defaultdict(list)
    for name in groups:
        names[name[:2]].append(name)
    count = Counter(series for _, series in names)
    for (patient, series), found in names.items():
        joined, notes = _joined(found, sizes)
        for parts in joined:
            scope = "/".join(parts[0][2:]) + "/" if len(joined) > 1 else ""
            key = scope + (series if count[series] == 1 else f"{patient}/{series}")
            slices = with_units([slice_ for part in parts for slice_ in groups.take(part)])
            yield from _volumes_of(key, slices, notes, params, outlines)


def _joined(names: list[_Name], sizes: Mapping[_Name, int]) -> tuple[list[list[_Name]], tuple[str, ...]]:
    """Join the names of one series that differ only in what their headers lack, or from file to file, with a note."""
    known = [{name[field] for name in names} - {""} for field in (2, 3)]
    groups: dict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for name in names:
        groups[tuple(min(found) if len(found) == 1 else own for own, found in zip(name[2:], known, strict=True))] += [
            name
        ]
    if len(groups) > 1 and 2 * len(groups) > sum(map(sizes.__getitem__, names)):
        return [names], ("each file names another study or frame of reference",)
    return list(groups.values()), ()


def _volumes_of(
    key: str, slices: list[Slice], notes: tuple[str, ...], params: SeriesParams, outlines: dict[str, _Outline]
) -> Iterator[Volume | Skipped]:
    numbers = itertools.count(1)
    for alike in _alike(slices):
        plane = Plane.of(alike[0].orientation)
        if params.orientation not in ("any", plane.name):
            next(numbers)
            yield from (Skipped(slice_.file.path, f"{plane.name} slices") for slice_ in alike)
            continue
        found, left = passes(alike, plane, params.root)
        yield from (Skipped(slice_.file.path, reason) for slice_, reason in left)
        for one in found:
            number = next(numbers)
            one.slices.sort(key=lambda slice_: plane.height(slice_.position))
            volume = _volume(f"{key}/{number}" if number > 1 else key, plane, one, notes)
            outlines[volume.key] = _Outline.of(volume, plane, one)
            yield volume


def _alike(slices: list[Slice]) -> list[list[Slice]]:
    """Cut a series where orientation, matrix, pixel spacing or unit change."""
    alike: list[list[Slice]] = []
    for slice_ in sorted(slices, key=lambda slice_: (not slice_.spacing, PUT_RIGHT in slice_.notes)):
        for part in alike:
            if _are_alike(slice_, part[0]):
                part.append(slice_)
                break
        else:
            alike.append([slice_])
    return alike


def _are_alike(a: Slice, b: Slice) -> bool:
    """Whether two slices can lie in one volume."""
    close = _LOOSE if PUT_RIGHT in a.notes else _CLOSE
    near = _CLOSE * min(b.spacing, default=0)
    return (
        (a.encoding.rows, a.encoding.columns) == (b.encoding.rows, b.encoding.columns)
        and a.encoding.hounsfield == b.encoding.hounsfield
        and (a.orientation == b.orientation or _are_close(a.orientation, b.orientation, close))
        and (a.spacing == b.spacing or not a.spacing or _are_close(a.spacing, b.spacing, near))
    )


def _are_close(a: tuple[float, ...], b: tuple[float, ...], tolerance: float) -> bool:
    return len(a) == len(b) and all(abs(one - other) < tolerance for one, other in zip(a, b, strict=True))


def _volume(key: str, plane: Plane, one: Pass, notes: tuple[str, ...]) -> Volume:
    """Return the volume of slices that ascend, with what a reader of it should know."""
    first, turn = one.slices[0], plane.turn
    spacing = next((slice_.spacing for slice_ in one.slices if slice_.spacing), (None, None))
    shape = (first.encoding.rows, first.encoding.columns)
    heights = np.array([plane.height(slice_.position) for slice_ in one.slices])
    between, uneven = describe_spacing(heights)
    return Volume(
        key=key,
        patient=first.series.patient or first.series.study or first.folder or "unknown",
        rows=shape[turn.transpose],
        columns=shape[not turn.transpose],
        spacing=(spacing[not turn.transpose], spacing[turn.transpose], between),
        notes=(*uneven, *_notes(plane, one), *notes),
        kernel=known_kernel(_commonest(slice_.marks.kernel for slice_ in one.slices)),
        thickness=_commonest(slice_.thickness for slice_ in one.slices),
        **sources(one.slices, turn),
    )


def _commonest(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _notes(plane: Plane, one: Pass) -> Iterator[str]:
    angle, shift = aslant(np.array([slice_.position for slice_ in one.slices]), plane.normal)
    if angle:
        yield f"gantry tilt {angle:.1f} degrees"
    if shift:
        yield f"field of view moves by {shift:.0f} mm"
    thicknesses = {slice_.thickness for slice_ in one.slices if slice_.thickness}
    if len(thicknesses) > 1:
        yield f"slice thickness {min(thicknesses):g} to {max(thicknesses):g} mm"
    if plane.turn:
        yield "stored rotated or mirrored; corrected"
    yield from one.notes
    if one.duplicates:
        yield f"duplicates skipped: {one.duplicates}"
    if one.unclear:
        yield f"slices skipped, because several different ones have one height: {len(one.unclear)}"
    if one.folders:
        yield f"its series is in {one.folders} folders whose heights overlap: perhaps not one scan"
    if not one.slices[0].series.patient:
        yield "no patient id in the header"
    if any(slice_.series.respelled for slice_ in one.slices):
        yield "the patient id differs in capitals or blanks from that of other files"
    wrong = Counter(note for slice_ in one.slices for note in slice_.notes)
    yield from (note if count == len(one.slices) else f"{note} (slices: {count})" for note, count in wrong.items())


# --- of one scan ----------------------------------------------------------------------------------------------------


class _Outline(NamedTuple):
    """What tells whether volumes show the same scan."""

    key: str  #: of the volume
    scan: Hashable  #: equal for reconstructions of one scan
    ends: tuple[float, float]  #: heights, mm
    acquired: tuple[float, float] | None  #: first and last time, s
    mixed: bool  #: its slices lie in several folders

    @classmethod
    def of(cls, volume: Volume, plane: Plane, one: Pass) -> _Outline:
        """Return the outline of a volume of slices that ascend."""
        first, last = (plane.height(one.slices[place].position) for place in (0, -1))
        marks = [{getattr(slice_.marks, name) for slice_ in one.slices} for name in _SCAN]
        constant = tuple(min(values) if len(values) == 1 else None for values in marks)
        event = min(slice_.series.event for slice_ in one.slices)
        study = max((slice_.series.study, slice_.series.frame_of_reference) for slice_ in one.slices)
        scan = (volume.patient, study, event, constant, plane.name, one.moment)
        times = [slice_.marks.acquired for slice_ in one.slices if slice_.marks.acquired is not None]
        acquired = (min(times), max(times)) if times else None
        return cls(volume.key, scan, (first, last), acquired, bool(one.folders))

    def shows_scan_of(self, other: _Outline) -> bool:
        """Whether two volumes may be reconstructions of one scan: at the same heights and the same time."""
        if self.scan != other.scan or not _overlap(self.ends, other.ends):
            return False
        a, b = self.acquired, other.acquired
        return a is None or b is None or (a[0] <= b[1] and b[0] <= a[1])


def _largest(found: Iterable[Volume | Skipped], outlines: Mapping[str, _Outline]) -> Iterator[Volume | Skipped]:
    """Yield the largest volume of each scan only."""
    volumes: list[Volume] = []
    for one in found:
        if isinstance(one, Volume):
            volumes.append(one)
        else:
            yield one
    largest: dict[Hashable, list[_Outline]] = defaultdict(list)
    for volume in sorted(volumes, key=len, reverse=True):
        outline = outlines[volume.key]
        if not any(outline.shows_scan_of(rival) for rival in largest[outline.scan]):
            largest[outline.scan].append(outline)
    kept = {outline.key for rivals in largest.values() for outline in rivals}
    for volume in volumes:
        if volume.key not in kept:
            reason = "another reconstruction or copy of the same scan is used"
            yield from (Skipped(file.path, reason) for file in volume.files)
    yield from (volume for volume in volumes if volume.key in kept)


def _related(found: Iterable[Volume | Skipped], outlines: Mapping[str, _Outline]) -> Iterator[Volume | Skipped]:
    """Name in each volume the first one that shows the same scan."""
    scans: dict[Hashable, list[_Outline]] = defaultdict(list)
    for one in found:
        if isinstance(one, Volume):
            outline = outlines[one.key]
            rivals = scans[outline.scan]
            same = next((rival.key for rival in rivals if outline.shows_scan_of(rival)), "")
            rivals.append(outline)
            yield replace(one, same_scan=same)
        else:
            yield one


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether two ranges of heights are the same but for a tenth of the shorter one."""
    shorter = min(a[1] - a[0], b[1] - b[0])
    return min(a[1], b[1]) - max(a[0], b[0]) >= 0.9 * shorter
