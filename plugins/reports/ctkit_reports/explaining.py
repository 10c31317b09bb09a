"""What makes an arm's choice judgeable by eye: pairs near the threshold, volumes from end to end, and who is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools, Floats, Ints, Knob, VolumeFacts
from ctkit_reports import hounsfield
from ctkit_reports.hounsfield import Images
from ctkit_reports.pictures import spread

if TYPE_CHECKING:
    from ctkit import RevisitedArm, Selection

PAIRS = 12  #: on each side of the threshold
VOLUMES = 3  #: shown of the most redundant, and of the least
VIEWED = 2  #: volumes that are shown slice by slice
MOST_SLICES = 1000  #: of a volume that is
MOST_CODES = 1 << 20  #: bytes of hashes that the page may hold


@dataclass(frozen=True)
class Pair:
    """Two slices, by their numbers in the table, and how far apart they are."""

    one: int
    stand_in: int
    distance: float


@dataclass(frozen=True)
class Profile:
    """One volume from end to end."""

    digest: str
    slices: Ints  #: (n,) numbers in the table
    index: Ints  #: (n,) numbers in the volume
    kept: Bools  #: (n,)
    previous: Floats  #: (n,) distance to the slice before, NaN for the first and where the reducer measures none
    stand_in: Floats  #: (n,) distance to the slice that stands for a dropped one, NaN for the others


@dataclass(frozen=True)
class Share:
    """How much is kept of some slices."""

    of: str
    volumes: int
    slices: int
    kept: int
    lost: int = 0  #: volumes that hold such slices and keep none of them


@dataclass(frozen=True)
class Codes:
    """Hashes of ``n`` slices in the order in which they are decided on, volume by volume."""

    slices: Ints  #: (n,) numbers in the table
    sizes: tuple[int, ...]  #: slices of each volume
    codes: NDArray[np.uint64]  #: (n, bits / 64)


@dataclass(frozen=True)
class Explanation:
    """What the page shows of an arm."""

    run: RevisitedArm
    alike: tuple[Pair, ...]  #: just within the threshold: a dropped slice and its stand-in, the farthest first
    apart: tuple[Pair, ...]  #: just beyond it: two slices both kept, the nearest first
    profiles: tuple[Profile, ...]  #: from the most redundant volume to the least
    viewed: tuple[int, ...]  #: which of them are shown slice by slice
    findings: tuple[Share, ...]  #: of the volumes that were read for findings: all slices, then each kind of finding
    traits: Mapping[str, tuple[Share, ...]]  #: such as "manufacturer", and a share for each value
    codes: Codes | None  #: of a hash that decides volume by volume
    images: Images  #: of pairs and viewed volumes; {} where the run shows no pixels


def explain(run: RevisitedArm) -> Explanation:
    """Gather what explains an arm. It decodes only what is shown, and reads again what the source says of volumes."""
    alike, apart = alike_pairs(run), apart_pairs(run)
    profiles = tuple(profile(run, number) for number in _volumes(run))
    findings, traits = _shares(run, run.facts())
    viewed = _viewed(profiles) if run.shows_images else ()
    wanted = {number for pair in (*alike, *apart) for number in (pair.one, pair.stand_in)}
    wanted |= {number for one in viewed for number in profiles[one].slices.tolist()}
    images = hounsfield.images(run, np.array(sorted(wanted), np.int64)) if run.shows_images else {}
    return Explanation(run, alike, apart, profiles, viewed, findings, traits, _codes(run), images)


def _viewed(profiles: Sequence[Profile]) -> tuple[int, ...]:
    """The first and the last volume that are not too long: the most redundant one and the least."""
    short = [number for number, one in enumerate(profiles) if len(one.slices) <= MOST_SLICES]
    return tuple(dict.fromkeys([*short[:1], *short[1:][-VIEWED + 1 :]]))


def _codes(run: RevisitedArm) -> Codes | None:
    """The hashes, from which the page can choose again; None for other reducers and scopes, and where they are many."""
    if run.reducer != "hash" or run.scope != "volume":
        return None
    groups = [(slices, group.evidence) for slices, group in run.groups() if group.evidence is not None]
    if not groups or sum(codes.nbytes for _, codes in groups) > MOST_CODES:
        return None
    numbers, codes = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    return Codes(numbers, tuple(len(slices) for slices, _ in groups), codes.reshape(len(numbers), -1))


# --- near the threshold -------------------------------------------------------------------------------------------


def alike_pairs(run: RevisitedArm) -> tuple[Pair, ...]:
    """Dropped slices that are farthest from what stands for them, the farthest first; evenly spread where many are."""
    chosen = run.selection
    dropped = np.flatnonzero(~chosen.kept & np.isfinite(chosen.distance))
    return _pairs(chosen, dropped[np.argsort(-chosen.distance[dropped], kind="stable")])


def apart_pairs(run: RevisitedArm) -> tuple[Pair, ...]:
    """Kept slices that are nearest to another one, the nearest first: those that a larger threshold drops first."""
    chosen, knob = run.selection, run.knob
    if knob is None or not np.isfinite(chosen.distance).any():
        return ()
    found: tuple[Pair, ...] = ()
    for at in _wider(knob, chosen.at[-1]):
        wider = run.select_at(at)
        gone = np.flatnonzero(chosen.kept & ~wider.kept & (wider.distance > chosen.at[-1]))
        found = _pairs(wider, gone[np.argsort(wider.distance[gone], kind="stable")])
        if len(found) == PAIRS:
            break
    return found


def _wider(knob: Knob, at: float) -> Iterator[float]:
    """Larger values of a knob: 1, 2, 4, ... more where it is integer, else ever larger shares of what is left."""
    if knob.integer:
        yield from (at + step for step in (1, 2, 4, 8, 16) if at + step <= knob.high)
    else:
        yield from (at + (knob.high - at) / part for part in (256, 64, 16, 4))


def _pairs(chosen: Selection, numbers: Ints) -> tuple[Pair, ...]:
    """The first pairs of dropped slices in order; where many are as far apart as the last of them, some of all."""
    if len(numbers) > PAIRS:
        tied = chosen.distance[numbers] == chosen.distance[numbers[PAIRS - 1]]
        first, last = np.flatnonzero(tied)[[0, -1]]
        some = numbers[first : last + 1]
        numbers = np.concatenate([numbers[:first], some[spread(len(some), PAIRS - int(first))]])
    return tuple(Pair(int(n), int(chosen.by[n]), float(chosen.distance[n])) for n in numbers)


# --- along a volume -----------------------------------------------------------------------------------------------


def _volumes(run: RevisitedArm) -> list[int]:
    """Numbers of the volumes that lose most and of those that lose least, of which more is kept than of the former."""
    slices = np.bincount(run.volume, minlength=len(run.volumes))
    kept = np.bincount(run.volume[run.selection.kept], minlength=len(run.volumes))
    known = np.flatnonzero(slices)
    order = known[np.argsort(kept[known] / slices[known], kind="stable")]
    return [*order[:VOLUMES].tolist(), *order[VOLUMES:][-VOLUMES:].tolist()]


def profile(run: RevisitedArm, number: int) -> Profile:
    """One volume of the catalogue from end to end."""
    slices, chosen = run.slices_of(number), run.selection
    kept = chosen.kept[slices]
    return Profile(
        digest=run.pseudonym(number),
        slices=slices,
        index=run.index[slices],
        kept=kept,
        previous=run.to_previous(slices),
        stand_in=np.where(kept, np.nan, chosen.distance[slices]).astype(np.float64),
    )


# --- who is kept --------------------------------------------------------------------------------------------------


def _shares(
    run: RevisitedArm, facts: Mapping[int, VolumeFacts]
) -> tuple[tuple[Share, ...], dict[str, tuple[Share, ...]]]:
    read = {number: found.findings for number, found in facts.items() if found.findings}
    findings = [_share(run, "all slices", dict.fromkeys(read))] if read else []
    for kind in sorted({kind for found in read.values() for kind in found}):
        findings.append(_share(run, kind, {number: found.get(kind, ()) for number, found in read.items()}))
    traits: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, found in facts.items():
        for name, value in found.traits.items():
            traits[name][value].append(number)
    by_trait = {
        name: tuple(_share(run, value, dict.fromkeys(numbers)) for value, numbers in sorted(values.items()))
        for name, values in traits.items()
    }
    return tuple(findings), by_trait


def _share(run: RevisitedArm, of: str, volumes: Mapping[int, Iterable[int] | None]) -> Share:
    """Count the readable slices of some volumes, all or those with the given numbers, and how many are kept."""
    holding, lost, parts = 0, 0, [np.zeros(0, np.int64)]
    for number, wanted in volumes.items():
        slices = run.slices_of(number)
        part = slices if wanted is None else slices[np.isin(run.index[slices], list(wanted))]
        holding += bool(len(part))
        lost += bool(len(part)) and not run.selection.kept[part].any()
        parts.append(part)
    chosen = np.concatenate(parts)
    return Share(of, holding, len(chosen), int(run.selection.kept[chosen].sum()), lost)
