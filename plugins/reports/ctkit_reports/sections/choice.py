"""How each arm chose its slices: where along the patient, what the slices look like, how far the dropped ones are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit import Pictures, Run, RunArm, SelectionTable, quantities
from ctkit.contracts import Ints
from ctkit_reports import figures, pictures, wording
from ctkit_reports.elements import Looks, Plot
from ctkit_reports.figures import Look

STRIPS = 4  #: volumes shown
PICTURES = 12  #: of each kind and arm; pairs are half as many


def choice(run: Run, looks: Looks) -> dict[str, Any]:
    """Where along the patient each arm keeps slices, what they look like, and how far the dropped ones are."""
    chosen = [(arm, arm.selection) for arm in run.arms if arm.selection is not None]
    plots = [plot for arm, chose in chosen for plot in (_distances(arm, chose, looks), curve(arm, looks[arm.name]))]
    found = {"strips": list(_strips(chosen, looks)), "plots": [plot for plot in plots if plot]}
    return found | {"montages": list(_montages(run, looks)) if run.images else []} if any(found.values()) else {}


def _strips(chosen: Sequence[tuple[RunArm, SelectionTable]], looks: Looks) -> Iterable[dict[str, Any]]:
    """Volumes from the shortest to the longest, evenly spread, with the slices that each arm keeps of them."""
    if not chosen:
        return
    first = chosen[0][1]
    sizes = np.bincount(first.volume, minlength=len(first.names))
    by_size = np.argsort(sizes, kind="stable")
    for rank in pictures.spread(len(by_size), STRIPS):
        digest = first.names[by_size[rank]]
        strips = [_strip(arm, selection, digest, looks[arm.name]) for arm, selection in chosen]
        last = max(int(selection.index[_inside(selection, digest)].max(initial=0)) for _, selection in chosen)
        yield {"digest": digest, "slices": last + 1, "strips": strips}


def _inside(selection: SelectionTable, digest: str) -> Ints:
    known = digest in selection.names
    return np.flatnonzero(selection.volume == selection.names.index(digest)) if known else np.empty(0, np.int64)


def _strip(arm: RunArm, selection: SelectionTable, digest: str, look: Look) -> dict[str, Any]:
    rows = _inside(selection, digest)
    kept = np.sort(selection.index[rows][selection.kept[rows]])
    share = f"{quantities.count(len(kept))} of {quantities.count(len(rows))}"
    return {"arm": arm.name, "look": look, "path": strip_path(kept), "kept": share}


def strip_path(kept: Ints) -> str:
    """SVG path of unit squares for the kept slices (n,), ascending, neighbours joined."""
    if not len(kept):
        return ""
    runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1)
    return "".join(f"M{run[0]} 0h{len(run)}v1h-{len(run)}z" for run in runs)


def _montages(run: Run, looks: Looks) -> Iterable[dict[str, Any]]:
    """Pictures of each arm as ``data:`` addresses; dropped ones in pairs with their stand-in, where they have one."""
    most = min(PICTURES, pictures.per_arm(len(run.arms)) // 4)
    for arm in run.arms:
        found = arm.pictures
        if found is None or arm.name == run.reference:
            continue
        paired = len(found.stand_in) == len(found.dropped)
        pairs = (
            [_pair(found, i, arm.unit) for i in pictures.spread(len(found.dropped), (most + 1) // 2)] if paired else []
        )
        dropped = [] if paired else _some(found.dropped, most)
        kept = _some(found.kept, most)
        yield {"arm": arm.name, "look": looks[arm.name], "kept": kept, "dropped": dropped, "pairs": pairs}


def _some(slices: NDArray[np.uint8], most: int) -> list[str]:
    return [pictures.as_uri(slices[i]) for i in pictures.spread(len(slices), most)]


def _pair(found: Pictures, i: int, unit: str) -> tuple[str, str, str]:
    apart = wording.apart(float(found.distance[i]), unit)
    return pictures.as_uri(found.dropped[i]), pictures.as_uri(found.stand_in[i]), apart


def _distances(arm: RunArm, selection: SelectionTable, looks: Looks) -> Plot | None:
    known = selection.distance[~selection.kept & np.isfinite(selection.distance)]
    if not len(known):
        return None
    title = f"distance to the kept slice, {wording.formula(arm.unit)}".rstrip(", ")
    svg = figures.histogram(f"{arm.name}: distances of dropped slices", title, known, looks[arm.name], arm.at)
    median = wording.number(float(np.median(known)))
    return Plot(svg, f"Distances of the slices {arm.name} dropped: {quantities.count(len(known))}, median {median}.")


def curve(arm: RunArm, look: Look) -> Plot | None:
    """How many slices each value of an arm's knob would keep, where the run left that."""
    if not arm.curve:
        return None
    at, kept = np.array([(row.at, row.kept) for row in arm.curve], np.float64).T
    last = arm.facts["steps"][-1]
    unit = wording.formula(last["unit"] or "")
    svg = figures.threshold_curve(
        f"{arm.name}: slices kept by {last['knob']}", f"{last['knob']}, {unit}", at, kept, look, arm.at
    )
    first, other = (f"{quantities.count(kept[i])} at {wording.number(at[i])}" for i in (0, -1))
    return Plot(svg, f"Slices that {arm.name} would keep by its {last['knob']}: {first}, {other}.")
