"""Tells the scans apart that share a series, such as cardiac phases, kernels, energies and passes over one place.

They are told apart where several slices lie at one height, by what differs there. The name of a file tells nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Volume
from ctkit.errors import DataError
from ctkit_datasets.dicom_elements import UNCOMPRESSED
from ctkit_datasets.dicom_geometry import Plane, Turn, is_even, levels
from ctkit_datasets.dicom_header import every_element
from ctkit_datasets.dicom_pixels import SliceReader
from ctkit_datasets.dicom_slices import Encoding, Slice, sources
from ctkit_datasets.dicom_terms import known_kernel

DUPLICATE = "duplicate: the same pixels as another slice of its series at the same height"
UNCLEAR = "several different slices of its series have the same height, and they cannot be assigned to scans"

_LEAST = 3  # slices of a pass: on average, or of each where heights do not repeat
_CLEAR = 2  # times as large must a gap between the values of two passes be as those inside
_MANY = 10  # slices on average: then more passes are believed than slices lie at one height
_LONGEST = 64  # bytes of an element that may tell scans apart
_DECODING = 60.0  # seconds that one slice may take
_Value: TypeAlias = Any


class _Way(NamedTuple):
    """A fact that may differ between the scans of one series."""

    name: str
    value: Callable[[Slice, Plane], _Value]
    unit: str | None = None  #: its number may be told
    repeated: bool = True  #: it tells other moments apart, not other reconstructions of one scan
    alone: bool = True  #: it may do so where parts meet in a single height


_WAYS = (  # the first ones say best what differs
    _Way("field of view", lambda slice_, plane: plane.place(slice_.position), repeated=False),
    _Way("phase", lambda slice_, _: slice_.marks.phase, "%"),
    _Way("temporal position", lambda slice_, _: slice_.marks.temporal),
    _Way("trigger delay", lambda slice_, _: slice_.marks.delay, "ms"),
    _Way("time offset", lambda slice_, _: slice_.marks.offset, "s"),
    _Way("tube voltage", lambda slice_, _: slice_.marks.voltage, "kV", repeated=False),
    _Way("energy", lambda slice_, _: slice_.marks.energy, "keV", repeated=False),
    _Way("kernel", lambda slice_, _: slice_.marks.kernel, repeated=False, alone=False),
    _Way("slice thickness", lambda slice_, _: slice_.thickness, "mm", repeated=False, alone=False),
    _Way("acquisition number", lambda slice_, _: slice_.marks.acquisition),
    _Way("irradiation event", lambda slice_, _: slice_.series.event),
    _Way(
        "image type", lambda slice_, _: (slice_.series.image_type, slice_.marks.frame_type), repeated=False, alone=False
    ),
    _Way("stack", lambda slice_, _: slice_.marks.stack),
    _Way("series number or description", lambda slice_, _: slice_.series.label),
    _Way("comment", lambda slice_, _: slice_.marks.comment),
    _Way("acquisition time", lambda slice_, _: slice_.marks.acquired),
)
"""Facts whose equal values make a scan."""

_ORDERS = (_WAYS[3], _WAYS[15], _WAYS[9])
"""Facts that count on from slice to slice, and further from one pass to the next."""

_FILE = _Way("file", lambda slice_, _: slice_.file.path if slice_.encoding.frames > 1 else "")
_FOLDER = _Way("folder", lambda slice_, _: slice_.folder)
_CONTENT = _Way("time of the image", lambda slice_, _: slice_.marks.content)
_NUMBER = _Way("order of the instances", lambda slice_, _: _number(slice_))


def _number(slice_: Slice) -> tuple[float, int] | None:
    number = slice_.marks.number
    return (number or 0.0, slice_.frame) if number is not None or slice_.encoding.frames > 1 else None


def _index(dimension: int, slice_: Slice, _: Plane) -> int | None:
    indices = slice_.marks.dimensions or ()
    return indices[dimension] if dimension < len(indices) else None


@dataclass(frozen=True)
class Pass:
    """The slices of one scan of a series, each at a height of its own."""

    slices: list[Slice]
    notes: tuple[str, ...] = ()  #: what tells it from the others
    moment: tuple[int, ...] = ()  #: equal for passes of several series that may be reconstructions of one scan
    duplicates: int = 0  #: that were left out
    unclear: tuple[Slice, ...] = ()  #: that were left out, as it is not known whose they are
    folders: int = 0  #: that alone tell it from others, or that its slices lie in at overlapping heights


def passes(slices: list[Slice], plane: Plane, root: Path) -> tuple[list[Pass], list[tuple[Slice, str]]]:
    """Return the scans that parallel slices of one series belong to, and the slices of none, each with the reason.

    ``root`` is the folder of the files, which are opened where no known fact explains why heights repeat.
    """
    found: list[Pass] = []
    left: list[tuple[Slice, str]] = []
    for one in _split(Pass(slices), plane, _known):
        at = _levels(one.slices, plane)
        if len(set(at)) < len(at):
            kept, copies = _without_copies(one.slices, at, root)
            left += ((copy, DUPLICATE) for copy in copies)
            one = replace(one, slices=kept, duplicates=len(copies))
        for last in _split(one, plane, partial(_unknown, root=root)):
            single, unclear = _single(last, plane)
            left += ((slice_, UNCLEAR) for slice_ in unclear)
            if single:
                folders = last.folders or _overlapping_folders(single, plane)
                found.append(replace(last, slices=single, unclear=unclear, folders=folders))
    return found, left


_Parts: TypeAlias = list[tuple[_Value, list[Slice]]]


class _Found(NamedTuple):
    """A fact that tells scans apart."""

    way: _Way
    parts: _Parts
    unclear: Sequence[Slice] = ()  #: slices of which it does not tell whose they are


def _split(
    whole: Pass, plane: Plane, explain: Callable[[list[Slice], list[int], Plane], _Found | None]
) -> Iterator[Pass]:
    """Cut by the fact that ``explain`` names for slices and the numbers of their heights, until it names none."""
    found = explain(whole.slices, _levels(whole.slices, plane), plane)
    if found is None:
        yield whole
        return
    for number, (value, part) in enumerate(found.parts):
        way, told = found.way, _told(found.way, value)
        note = f"one of {len(found.parts)} scans in its series, told apart by {way.name}{f' ({told})' if told else ''}"
        one = Pass(
            part,
            (*whole.notes, note),
            moment=(*whole.moment, number) if way.repeated else whole.moment,
            duplicates=0 if number else whole.duplicates,
            unclear=() if number else (*whole.unclear, *found.unclear),
            folders=len(found.parts) if way is _FOLDER else whole.folders,
        )
        yield from _split(one, plane, explain)


def _told(way: _Way, value: _Value) -> str:
    """Return a value as it may be told: a number, or a kernel that is known. Any other text might name somebody."""
    if way.name == "kernel":
        return known_kernel(value)
    return f"{value:g} {way.unit}".strip() if way.unit is not None and isinstance(value, float) else ""


def _known(slices: list[Slice], at: list[int], plane: Plane) -> _Found | None:
    """Return which of ``_WAYS`` and ``_ORDERS`` explains that heights repeat."""
    dimensions = range(len(slices[0].marks.dimensions or ()))
    repeats = len(set(at)) < len(at)  # otherwise a field of view is no scan: tilted slices have one each
    ways = (*_WAYS[not repeats :], *(_Way("dimension index", partial(_index, dimension)) for dimension in dimensions))
    orders = (_by_order(slices, at, plane, way) for way in _ORDERS)
    return _by_values(slices, at, plane, ways) or next(filter(None, orders), None)


def _unknown(slices: list[Slice], at: list[int], plane: Plane, root: Path) -> _Found | None:
    """Return whatever else explains it: any element of the header, the folder, at last the order of the instances."""
    if len(set(at)) == len(at):
        return _evened(slices, plane)
    ways = (_FILE, _CONTENT, *_element_ways(slices, at, root), _FOLDER)
    return (
        _by_values(slices, at, plane, ways, strict=True)
        or _by_order(slices, at, plane, _CONTENT)
        or _by_order(slices, at, plane, _NUMBER)
    )


def _evened(slices: list[Slice], plane: Plane) -> _Found | None:
    """Cut slices at uneven distances by folder, or where their numbers begin anew, if both parts are even then."""
    heights = np.sort(_heights(slices, plane))
    for found in _rounds(slices, plane) if len(heights) > 1 and not is_even(heights) else ():
        each = [np.sort(_heights(part, plane)) for _, part in found.parts]
        if len(each) > 1 and _lie_in_each_other(each) and all(map(is_even, each)):
            return found
    return None


def _rounds(slices: list[Slice], plane: Plane) -> Iterator[_Found]:
    """Yield the slices of each folder, and those that follow each other upwards or downwards by their numbers."""
    folders: dict[str, list[Slice]] = defaultdict(list)
    for slice_ in slices:
        folders[slice_.folder].append(slice_)
    yield _Found(_FOLDER, [(None, folders[name]) for name in sorted(folders)])
    numbered = [slice_ for slice_ in slices if _number(slice_) is not None]
    if len(numbered) == len(slices):
        ordered = sorted(slices, key=lambda slice_: _number(slice_) or ())
        steps = np.sign(np.diff(_heights(ordered, plane)))
        turns = np.flatnonzero(steps != np.median(steps)) + 1
        ends = [0, *turns.tolist(), len(ordered)]
        yield _Found(_NUMBER, [(None, ordered[first:last]) for first, last in itertools.pairwise(ends)])


# --- heights ------------------------------------------------------------------------------------------------------


def _heights(slices: Iterable[Slice], plane: Plane) -> NDArray[np.float64]:
    positions = np.array([slice_.position for slice_ in slices], np.float64)
    return np.asarray(positions @ np.array(plane.normal))


def _levels(slices: Sequence[Slice], plane: Plane) -> list[int]:
    """Return for each slice the number of the height it lies at, counted upwards."""
    thickness = [slice_.thickness for slice_ in slices if slice_.thickness and slice_.thickness > 0]
    return levels(_heights(slices, plane), float(np.median(thickness)) if thickness else None)


def _single(one: Pass, plane: Plane) -> tuple[list[Slice], tuple[Slice, ...]]:
    """Return the slices that lie alone at their height, and those that are left out for they do not."""
    at = _levels(one.slices, plane)
    if len(set(at)) == len(at):
        return one.slices, one.unclear
    count = Counter(at)
    single = [slice_ for slice_, level in zip(one.slices, at, strict=True) if count[level] == 1]
    others = (slice_ for slice_, level in zip(one.slices, at, strict=True) if count[level] > 1)
    return single, (*one.unclear, *others)


# --- by values ----------------------------------------------------------------------------------------------------


def _by_values(
    slices: list[Slice], at: list[int], plane: Plane, ways: Iterable[_Way], *, strict: bool = False
) -> _Found | None:
    """Return the fact whose equal values explain best why heights repeat, and the parts they make.

    It explains it where most slices of one height differ in it. It does not where it shatters a scan, as there are
    scanners that count an acquisition for each slice. Where no height repeats, the parts must lie in each other.
    ``strict``: only where no height repeats in any part.
    """
    count = Counter(at)
    most, repeated = max(count.values()), {level for level, slices_ in count.items() if slices_ > 1}
    best: tuple[int, int, int] | None = None
    found: _Found | None = None
    for rank, way in enumerate(ways):
        values = [way.value(slice_, plane) for slice_ in slices]
        fewest = most if repeated and len(count) > 1 else 0
        if not 1 < len(set(values)) <= max(fewest, len(slices) / _LEAST):
            continue
        parts: dict[_Value, list[int]] = defaultdict(list)
        for number, value in enumerate(values):
            parts[value].append(number)
        if repeated:
            if len(parts) > most and len(slices) < _MANY * len(parts):
                continue
            left = sum(len(numbers) - len({at[number] for number in numbers}) for numbers in parts.values())
            pairs = Counter(level for level, _ in set(zip(at, values, strict=True)))
            told = sum(pairs[level] > 1 for level in repeated)
            if 2 * told < len(repeated) or (strict and left) or not (way.alone or told > 1):
                continue
        elif _lie_in_each_other([_heights((slices[n] for n in numbers), plane) for numbers in parts.values()]):
            left = 0
        else:
            continue
        score = (left, len(parts), rank)
        if best is None or score < best:
            best = score
            ordered = sorted(parts.items(), key=lambda item: _rank_of(item[0]))
            found = _Found(way, [(value, [slices[number] for number in numbers]) for value, numbers in ordered])
    return found


def _rank_of(value: _Value) -> tuple[float, str]:
    """Order values of any kind: unknown ones, numbers, others."""
    return (float(value), "") if isinstance(value, float) else (-np.inf if value is None else np.inf, repr(value))


def _lie_in_each_other(parts: list[NDArray[np.float64]]) -> bool:
    """Whether parts without a common height are scans of one place: not one of them fills what another one lacks."""
    if min(map(len, parts)) < _LEAST:
        return False
    parts = [np.sort(part) for part in parts]
    for number, part in enumerate(parts):
        others = np.concatenate([*parts[:number], *parts[number + 1 :]])
        gaps = np.diff(part)
        lacking = np.rint(gaps / np.median(gaps)) - 1  # slices
        inside = np.histogram(others, part)[0]
        filling = inside[inside <= lacking].sum()
        within = np.count_nonzero((part > others.min()) & (part < others.max()))
        if 2 * within < len(part) or 2 * filling > inside.sum():
            return False
    return True


# --- by order -----------------------------------------------------------------------------------------------------


def _by_order(slices: list[Slice], at: list[int], plane: Plane, way: _Way) -> _Found | None:
    """Return the passes that slices come in, one for each slice at a height, and the slices of which that is unclear.

    There are three ways to find them, of which the first that explains all heights is taken: the largest gaps between
    values; where heights turn back; and the first, second and further slices at each height.
    """
    count = Counter(at)
    most, values = max(count.values()), [way.value(slice_, plane) for slice_ in slices]
    if 1 in (most, len(count)) or None in values or len(set(zip(values, at, strict=True))) < len(slices):
        return None
    ordered = sorted(range(len(slices)), key=lambda number: (values[number], at[number]))
    ranks = [] if way is _CONTENT else _ranks(ordered, at, values, most)  # images are made in any order
    for found in (_clusters(ordered, values, most), _runs(ordered, at), ranks):
        if len(found) == most and _are_over_each_other([[at[number] for number in part] for part in found]):
            used = set(itertools.chain(*found))
            unclear = [slices[number] for number in ordered if number not in used]
            return _Found(way, [(None, [slices[number] for number in part]) for part in found], unclear)
    return None


def _clusters(ordered: list[int], values: list[Any], most: int) -> list[list[int]]:
    """Cut slices at the largest gaps between their values, if these are far larger than the others."""
    numbers = [values[number] for number in ordered]  # without those of frames
    gaps = np.diff([float(number[0] if isinstance(number, tuple) else number) for number in numbers])
    cuts = np.sort(np.argsort(gaps)[len(gaps) - most + 1 :])
    others = np.delete(gaps, cuts)
    if others.size and gaps[cuts].min() <= _CLEAR * others.max():
        return []
    return [ordered[first:last] for first, last in itertools.pairwise([0, *(cuts + 1).tolist(), len(ordered)])]


def _ranks(ordered: list[int], at: list[int], values: list[Any], most: int) -> list[list[int]]:
    """Return the first slices of all heights that have so many, then the second ones, and so on.

    Numbers of instances must differ alike at most of these heights, as they do in scans by turns; others mean nothing.
    """
    count = Counter(at)
    full = sorted((number for number in ordered if count[at[number]] == most), key=at.__getitem__)
    ranks = [full[first::most] for first in range(most)]
    if 2 * len(ranks[0]) < len(count):
        return []
    if isinstance(values[0], tuple):
        for before, after in itertools.pairwise(ranks):
            steps = Counter(
                values[b][0] - values[a][0] or values[b][1] - values[a][1] for a, b in zip(before, after, strict=True)
            )
            if 2 * steps.most_common(1)[0][1] < len(before):
                return []
    return ranks


def _runs(ordered: list[int], at: list[int]) -> list[list[int]]:
    """Cut slices, by their numbers in order, where their heights turn back.

    Where they turn between a run up and a run down, the slice at the turn may be of either one; if its height is not in
    both, it is left out.
    """
    runs: list[list[int]] = [ordered[:1]]
    ways = [0]  # 1 for a run up, -1 for a run down
    for before, number in itertools.pairwise(ordered):
        step = int(np.sign(at[number] - at[before]))
        if step == 0 or ways[-1] == -step:
            runs.append([number])
            ways.append(0)
        else:
            runs[-1].append(number)
            ways[-1] = step
    for number, (run, after) in enumerate(itertools.pairwise(runs)):
        if ways[number] == -ways[number + 1] and at[run[-1]] not in {at[other] for other in after}:
            run.pop()
    return runs


def _are_over_each_other(passes_: list[list[int]]) -> bool:
    """Whether no height repeats in a pass, and each has more than one in common with earlier ones, but single slices.

    Otherwise one slice of a scan was taken twice, and the scan goes on behind it.
    """
    seen: set[int] = set()
    for number, levels_ in enumerate(passes_):
        if len(set(levels_)) < len(levels_):
            return False
        if number and len(levels_) >= _LEAST and len(seen.intersection(levels_)) < 2:
            return False
        seen.update(levels_)
    return True


# --- by the files themselves --------------------------------------------------------------------------------------


def _element_ways(slices: list[Slice], at: list[int], root: Path) -> Iterator[_Way]:
    """Yield each element of the headers, standard or private, that takes as many values as slices lie at one height."""
    headers: dict[str, list[dict[int, bytes]]] = {}
    for slice_ in slices:
        if slice_.file.path not in headers:
            headers[slice_.file.path] = every_element(root / slice_.file.path, _LONGEST)
    values: dict[int, set[bytes]] = defaultdict(set)
    most = max(Counter(at).values())
    for frames in headers.values():
        for frame in frames:
            for tag, value in frame.items():
                if len(values[tag]) <= most:
                    values[tag].add(value)

    def value_of(slice_: Slice, tag: int) -> bytes:
        frames = headers[slice_.file.path]
        return frames[slice_.frame].get(tag, b"") if slice_.frame < len(frames) else b""

    for tag in sorted(values):
        if most - 1 <= len(values[tag]) <= most:
            name = f"element ({tag >> 16:04X},{tag & 0xFFFF:04X})"
            yield _Way(name, lambda slice_, _, tag=tag: value_of(slice_, tag), repeated=False)  # type: ignore[misc]


def _without_copies(slices: list[Slice], at: list[int], root: Path) -> tuple[list[Slice], list[Slice]]:
    """Return one of the slices of equal values at each height, and the others."""
    count = Counter(at)
    first = slices[0].encoding
    volume = Volume("copies", "copies", rows=first.rows, columns=first.columns, **sources(slices, Turn()))
    kept: list[Slice] = []
    copies: list[Slice] = []
    seen: set[tuple[int, bytes]] = set()
    with closing(SliceReader(root, volume)) as reader, _Decoder(root, volume) as decoder:
        for number, slice_ in enumerate(slices):
            mark = b""
            if count[at[number]] > 1:
                digest = decoder.digest if slice_.encoding.syntax not in UNCOMPRESSED else partial(_digest, reader)
                mark = digest(number) or str(number).encode()  # what cannot be read is nobody's copy
            (copies if (at[number], mark) in seen else kept).append(slice_)
            seen.add((at[number], mark))
    return kept, copies


class _Decoder(ExitStack):
    """Digests of compressed slices, decoded in a process of its own: damaged ones may crash or hang their decoder."""

    def __init__(self, root: Path, volume: Volume) -> None:
        super().__init__()
        self._source = (root, volume)
        self._process: Any = None

    def digest(self, number: int) -> bytes | None:
        """As ``_digest``."""
        import loky

        if self._process is None:
            self._process = loky.ProcessPoolExecutor(1)
            self.callback(self._process.shutdown, kill_workers=True)
        try:
            return self._process.submit(_digest_of, *self._source, number).result(_DECODING)  # type: ignore[no-any-return]
        except (TimeoutError, BrokenExecutor):
            self.close()
            self._process = None
            return None


def _digest_of(root: Path, volume: Volume, number: int) -> bytes | None:
    with closing(SliceReader(root, volume)) as reader:
        return _digest(reader, number)


def _digest(reader: SliceReader, number: int) -> bytes | None:
    """Digest of what the values of a slice mean, None where it cannot be read."""
    values = np.empty(reader.shape, np.float64)
    try:
        reader.read(number, values, _rescaled)
    except DataError:
        return None
    return hashlib.blake2b(values.tobytes()).digest()


def _rescaled(stored: NDArray[Any], encoding: Encoding, out: NDArray[np.float64]) -> None:
    """Write what stored values mean into ``out``; both are (rows, columns)."""
    out[...] = stored * encoding.slope + (encoding.intercept or 0.0)


def _overlapping_folders(slices: Sequence[Slice], plane: Plane) -> int:
    """Return how many folders the slices lie in whose heights overlap, 0 for none or where each holds a few slices."""
    heights: dict[str, list[float]] = defaultdict(list)
    for slice_ in slices:
        heights[slice_.folder].append(plane.height(slice_.position))
    if not 1 < len(heights) <= len(slices) / _LEAST:
        return 0
    ranges = sorted((min(one), max(one)) for one in heights.values())
    overlap = any(after[0] < before[1] for before, after in itertools.pairwise(ranges))
    return len(ranges) if overlap else 0
