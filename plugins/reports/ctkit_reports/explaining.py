"""What makes an arm's choice judgeable by eye: pairs near the threshold, volumes from end to end, and who is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit import compute
from ctkit.contracts import Bools, Dataset, Floats, Group, Ints, Knob, Volume, VolumeFacts
from ctkit.pipeline_file import Chosen
from ctkit.reader.arm import Revisited
from ctkit.slices import selection
from ctkit.stages.pictures import images_of, spread

PAIRS = 12  #: on each side of the threshold
VOLUMES = 3  #: shown of the most redundant, and of the least
THUMBNAILS = 24  #: of each volume

Images = Mapping[int, NDArray[np.uint8]]  #: by number of the slice in the table


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


@dataclass(frozen=True)
class Explanation:
    """What the page shows of an arm."""

    arm: str
    reducer: str
    knob: Knob | None
    at: float  #: knob of the last step, NaN where there is none
    everything: Share
    alike: tuple[Pair, ...]  #: just within the threshold: a dropped slice and its stand-in, the farthest first
    apart: tuple[Pair, ...]  #: just beyond it: two slices both kept, the nearest first
    profiles: tuple[Profile, ...]  #: from the most redundant volume to the least
    findings: tuple[Share, ...]  #: of the volumes that were read for findings: all slices, then each kind of finding
    traits: Mapping[str, tuple[Share, ...]]  #: such as "manufacturer", and a share for each value
    images: Images  #: of pairs and thumbnails; {} where the run shows no pixels


def explain(run: Revisited) -> Explanation:
    """Gather what explains an arm. It decodes only what is shown, and reads again what the source says of volumes."""
    step, at = run.arm.steps[-1], run.selected.selection.at[-1]
    alike, apart = alike_pairs(run), apart_pairs(run)
    profiles = tuple(profile(run, number) for number in _volumes(run))
    findings, traits = _shares(run, _facts(run))
    wanted = {number for pair in (*alike, *apart) for number in (pair.one, pair.stand_in)}
    wanted |= {number for one in profiles for number in spread(one.slices, THUMBNAILS).tolist()}
    shown = np.array(sorted(wanted), np.int64) if run.session.pipeline.report.images else np.zeros(0, np.int64)
    everything = Share("all slices", len(run.catalogue), len(run.table), int(run.selected.selection.kept.sum()))
    return Explanation(
        arm=run.arm.id,
        reducer=step.reducer.entry.name,
        knob=step.reducer.build().knob,
        at=at,
        everything=everything,
        alike=alike,
        apart=apart,
        profiles=profiles,
        findings=findings,
        traits=traits,
        images=images_of(run.session, run.catalogue, run.table, shown),
    )


# --- near the threshold -------------------------------------------------------------------------------------------


def alike_pairs(run: Revisited) -> tuple[Pair, ...]:
    """Dropped slices that are farthest from what stands for them, the farthest first; evenly spread where many are."""
    chosen = run.selected.selection
    dropped = np.flatnonzero(~chosen.kept & np.isfinite(chosen.distance))
    return _pairs(chosen, dropped[np.argsort(-chosen.distance[dropped], kind="stable")])


def apart_pairs(run: Revisited) -> tuple[Pair, ...]:
    """Kept slices that are nearest to another one, the nearest first: those that a larger threshold drops first."""
    chosen, choices = run.selected.selection, run.evidence.choices(run.arm)
    knob = choices[-1].reducer.knob
    if knob is None or not np.isfinite(chosen.distance).any():
        return ()
    seed = run.session.pipeline.run.seed if run.selected.seed is None else run.selected.seed
    found: tuple[Pair, ...] = ()
    for at in _wider(knob, chosen.at[-1]):
        wider = selection.select(run.table, [*choices[:-1], replace(choices[-1], at=at)], seed)
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


def _pairs(chosen: selection.Selection, numbers: Ints) -> tuple[Pair, ...]:
    """The first pairs of dropped slices in order; where many are as far apart as the last of them, some of all."""
    if len(numbers) > PAIRS:
        tied = chosen.distance[numbers] == chosen.distance[numbers[PAIRS - 1]]
        first, last = np.flatnonzero(tied)[[0, -1]]
        numbers = np.concatenate([numbers[:first], spread(numbers[first : last + 1], PAIRS - int(first))])
    return tuple(Pair(int(n), int(chosen.by[n]), float(chosen.distance[n])) for n in numbers)


# --- along a volume -----------------------------------------------------------------------------------------------


def _volumes(run: Revisited) -> list[int]:
    """Numbers of the volumes that lose most and of those that lose least, of which more is kept than of the former."""
    slices = np.bincount(run.table.volume, minlength=len(run.catalogue))
    kept = np.bincount(run.table.volume[run.selected.selection.kept], minlength=len(run.catalogue))
    known = np.flatnonzero(slices)
    order = known[np.argsort(kept[known] / slices[known], kind="stable")]
    return [*order[:VOLUMES].tolist(), *order[VOLUMES:][-VOLUMES:].tolist()]


def profile(run: Revisited, number: int) -> Profile:
    """One volume of the catalogue from end to end."""
    slices, chosen = _slices(run, number), run.selected.selection
    kept = chosen.kept[slices]
    return Profile(
        digest=run.session.cache.pseudonym(run.catalogue[number].key),
        slices=slices,
        index=run.table.index[slices],
        kept=kept,
        previous=_to_previous(run, slices),
        stand_in=np.where(kept, np.nan, chosen.distance[slices]).astype(np.float64),
    )


def _slices(run: Revisited, number: int) -> Ints:
    """Numbers in the table of a volume's slices."""
    return np.arange(*np.searchsorted(run.table.volume, [number, number + 1]))


def _to_previous(run: Revisited, slices: Ints) -> Floats:
    """Distance (n,) of each slice to the one before, NaN where the last step's reducer measures none.

    The reducer says it itself, asked to choose of the two with the largest threshold there is.
    """
    last = run.evidence.choices(run.arm)[-1]
    found = np.full(len(slices), np.nan)
    if last.reducer.knob is None or last.reducer.evidence == "none":
        return found
    for place in range(1, len(slices)):
        two = slices[place - 1 : place + 1]
        group = Group(run.table.volume[two], run.table.index[two], last.evidence(two))
        decision = last.reducer.select(group, last.reducer.knob.high, np.random.default_rng(0))
        if decision.distance is not None:
            found[place] = decision.distance[1]
    return found


# --- who is kept --------------------------------------------------------------------------------------------------


def _facts(run: Revisited) -> dict[int, VolumeFacts]:
    """What the source says of each volume, by its number."""
    items = enumerate(run.catalogue)
    work = partial(facts_of, run.session.pipeline.dataset)
    found: dict[int, VolumeFacts] = {}
    for outcome in run.session.parallel("facts", work, items, total=len(run.catalogue), name=lambda one: str(one[0])):
        if isinstance(outcome, compute.Done):
            found[outcome.item[0]] = outcome.result
    return found


def facts_of(chosen: Chosen[Dataset[Any]], item: tuple[int, Volume]) -> VolumeFacts:
    """Ask the data set about one volume. Runs in a worker process."""
    return chosen.build().facts(item[1])


def _shares(run: Revisited, facts: Mapping[int, VolumeFacts]) -> tuple[tuple[Share, ...], dict[str, tuple[Share, ...]]]:
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


def _share(run: Revisited, of: str, volumes: Mapping[int, Iterable[int] | None]) -> Share:
    """Count the readable slices of some volumes, all or those with the given numbers, and how many are kept."""
    holding, parts = 0, [np.zeros(0, np.int64)]
    for number, wanted in volumes.items():
        slices = _slices(run, number)
        part = slices if wanted is None else slices[np.isin(run.table.index[slices], list(wanted))]
        holding += bool(len(part))
        parts.append(part)
    chosen = np.concatenate(parts)
    return Share(of, holding, len(chosen), int(run.selected.selection.kept[chosen].sum()))
