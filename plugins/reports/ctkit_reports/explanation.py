"""The page that explains one arm, in the report's style: ``explain.html`` in the arm's folder."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

from ctkit import RevisitedArm, hookspecs, quantities, rendering
from ctkit.files import write_text
from ctkit_reports import figures, hounsfield, pictures, wording
from ctkit_reports.elements import Plot, Table, number, table, text
from ctkit_reports.explaining import MOST_CODES, Explanation, Profile, Share
from ctkit_reports.figures import Look
from ctkit_reports.page import lay_out
from ctkit_reports.sections.choice import strip_path

_TITLES = {
    "kept": "What it keeps",
    "threshold": "At the threshold",
    "volumes": "Along volumes",
    "shares": "Who is kept",
}
_LOOK = Look(1)
_BUDGET = 9_000_000  #: bytes of the page
_SIDES = (256, 192, 128, 96, 64, 48)  #: pixels of the slices of viewed volumes, the first that fits
_WORST = 3  #: kinds of findings in the headline

Picture = Mapping[str, Any]
Viewed = Mapping[int, Mapping[int, Picture]]  #: pictures by the slice's number, by the place of a viewed volume


def write_explanation(path: Path, explanation: Explanation) -> None:
    """Write the page. It loads nothing from elsewhere and names no patient, source file or path."""
    images, codes = explanation.images, explanation.codes
    paired = [n for pair in (*explanation.alike, *explanation.apart) for n in (pair.one, pair.stand_in) if n in images]
    shown = {number: _picture(explanation, number) for number in paired}
    used = sum(len(shown[number]["uri"]) for number in paired) + (codes.codes.nbytes * 4 // 3 if codes else 0)
    viewed = fitting(explanation, _BUDGET - used)
    content = {
        "name": explanation.run.name,
        "version": hookspecs.VERSION,
        "summary": " · ".join(filter(None, [explanation.run.reducer, _setting(explanation.run)])),
        "windows": _windows(explanation.run) if any(image.is_hu for image in images.values()) else [],
        "kept": _kept(explanation),
        "threshold": _threshold(explanation, shown),
        "volumes": [_strip(explanation, one, viewed.get(n, {})) for n, one in enumerate(explanation.profiles)],
        "shares": _tables(explanation),
        "choice": _choice(explanation, viewed),
    }
    write_text(path, lay_out("explanation of an arm", _TITLES, content, "explain.js"))


def _picture(explanation: Explanation, number: int, side: int = hounsfield.SIDE) -> Picture:
    image = explanation.images[number]
    return {"uri": pictures.as_png(image.codes, side), "is_hu": image.is_hu}


def fitting(explanation: Explanation, budget: int) -> Viewed:
    """Pictures of the viewed volumes, as large as the budget of bytes lets them be; of fewer where it must."""
    for many in range(len(explanation.viewed), 0, -1):
        readable = {
            place: [n for n in explanation.profiles[place].slices.tolist() if n in explanation.images]
            for place in explanation.viewed[:many]
        }
        for side in _SIDES:
            found = {place: {n: _picture(explanation, n, side) for n in own} for place, own in readable.items() if own}
            if sum(len(picture["uri"]) for own in found.values() for picture in own.values()) <= budget:
                return found
    return {}


def _windows(run: RevisitedArm) -> list[tuple[str, str, str]]:
    """Id, name and greys of each window; the one of pre-training first, where it is one."""
    named = dict(hounsfield.WINDOWS)
    levels = rendering.WINDOWS.get(run.levels) if isinstance(run.levels, str) else run.levels
    if levels and tuple(levels) not in named.values():
        named = {"As pre-trained": levels} | named
    return [
        (f"window-{place}", name, " ".join(f"{grey:.3f}" for grey in hounsfield.table(*window)))
        for place, (name, window) in enumerate(named.items())
    ]


def _setting(run: RevisitedArm) -> str:
    at = run.selection.at[-1]
    return "" if run.knob is None or math.isnan(at) else f"{run.knob.name} {wording.apart(at, run.knob.unit)}"


# --- what it keeps ------------------------------------------------------------------------------------------------


def _kept(explanation: Explanation) -> dict[str, Any]:
    run = explanation.run
    kept, slices = int(run.selection.kept.sum()), len(run.index)
    share = wording.percent(kept / max(slices, 1))
    said = [f"“{run.name}” keeps {quantities.count(kept)} of {quantities.count(slices, 'slice')} ({share})."]
    kinds = [one for one in explanation.findings[1:] if one.slices]
    worst = sorted(kinds, key=lambda one: (-one.lost / one.volumes, one.kept / one.slices))[:_WORST]
    said += [_found(one) for one in worst]
    if len(kinds) > _WORST:
        losing = sum(one.lost > 0 for one in kinds)
        said.append(f"Of {len(kinds)} kinds of findings, {losing} are lost whole in some volume.")
    slider = explanation.codes and {"at": int(run.selection.at[-1]), "high": int(run.knob.high if run.knob else 0)}
    return {"said": said, "slider": slider, "unit": run.knob.unit if run.knob else "", "unmoved": _unmoved(run)}


def _unmoved(run: RevisitedArm) -> str:
    """Why the page of a hash arm has no slider, and what tells of other thresholds."""
    if run.reducer != "hash":
        return ""
    many = f"Its hashes take more than {quantities.size(MOST_CODES)}"
    why = many if run.scope == "volume" else "This arm compares slices of all volumes"
    return f"{why}, so this page has no slider for the threshold. The command ctkit curve tells what others keep."


def _found(one: Share) -> str:
    """How much of a finding is lost: by slices, and in how many volumes wholly."""
    lost = quantities.count(one.slices - one.kept)
    text = f"Findings lost: {lost} of {quantities.count(one.slices, 'slice')} with “{one.of}” are dropped"
    if not one.lost:
        return f"{text}; every volume with it keeps at least one."
    return f"{text}, and {one.lost} of {quantities.count(one.volumes, 'volume')} with it keep none."


# --- near the threshold -------------------------------------------------------------------------------------------


def _threshold(explanation: Explanation, shown: Mapping[int, Picture]) -> dict[str, Any]:
    """Pairs on both sides of the threshold, of those that can still be read."""
    unit = explanation.run.knob.unit if explanation.run.knob else ""
    alike, apart = (
        [
            (shown[pair.one], shown[pair.stand_in], wording.apart(pair.distance, unit))
            for pair in pairs
            if {pair.one, pair.stand_in} <= shown.keys()
        ]
        for pairs in (explanation.alike, explanation.apart)
    )
    return {"statement": _setting(explanation.run), "alike": alike, "apart": apart} if alike or apart else {}


# --- along a volume -----------------------------------------------------------------------------------------------


def _strip(explanation: Explanation, one: Profile, viewed: Mapping[int, Picture]) -> dict[str, Any]:
    """One volume: its profile, and where it is viewed its slices, each with its number and whether it is kept."""
    run = explanation.run
    slices = [(picture, run.index[n], run.selection.kept[n]) for n, picture in viewed.items()]
    return {
        "digest": one.digest,
        "statement": f"{quantities.count(int(one.kept.sum()))} of {quantities.count(len(one.kept), 'slice')} kept",
        "plot": _profile(explanation, one),
        "slices": slices,
        "path": strip_path(np.flatnonzero([kept for _, _, kept in slices])),
    }


def _profile(explanation: Explanation, one: Profile) -> Plot | None:
    values = one.previous, one.stand_in
    if not np.isfinite(np.concatenate(values)).any():
        return None
    knob, at = explanation.run.knob, explanation.run.selection.at[-1]
    unit = wording.formula(knob.unit) if knob else ""
    svg = figures.profile("", unit, one.index.astype(np.float64), values, one.kept, at, _LOOK)
    median = wording.number(float(np.nanmedian(one.previous))) if np.isfinite(one.previous).any() else "unknown"
    return Plot(svg, f"Distances along volume {one.digest}: to the slice before, median {median}; kept slices marked.")


# --- for the page's script ----------------------------------------------------------------------------------------


def _choice(explanation: Explanation, viewed: Viewed) -> dict[str, Any]:
    """What the script needs: of each viewed volume what stands for which slice, and the hashes to choose again."""
    run, codes = explanation.run, explanation.codes
    found: dict[str, Any] = {
        "unit": run.knob.unit if run.knob else "",
        "volumes": [_viewed(explanation, list(own)) for own in viewed.values()],
    }
    if codes is not None:
        found |= {
            "codes": base64.b64encode(codes.codes.astype("<u8").tobytes()).decode(),
            "words": 2 * codes.codes.shape[1],
            "sizes": codes.sizes,
            "total": len(run.index),
        }
    return found


def _viewed(explanation: Explanation, numbers: list[int]) -> dict[str, Any]:
    """What stands for each slice of a volume: its position among them, -1 for none; how far; and its place in codes."""
    chosen, codes = explanation.run.selection, explanation.codes
    position = {number: place for place, number in enumerate(numbers)}
    coded = {} if codes is None else {int(number): place for place, number in enumerate(codes.slices)}
    return {
        "index": explanation.run.index[numbers].tolist(),
        "kept": chosen.kept[numbers].tolist(),
        "by": [position.get(int(chosen.by[number]), -1) for number in numbers],
        "distance": [None if math.isnan(far) else round(far, 4) for far in chosen.distance[numbers].tolist()],
        "places": [coded.get(number, -1) for number in numbers],
    }


# --- who is kept --------------------------------------------------------------------------------------------------


def _tables(explanation: Explanation) -> list[Table]:
    named = [("Slices with findings, in volumes with annotations", "Finding", explanation.findings)]
    named += [(f"By {name}", name.capitalize(), shares) for name, shares in explanation.traits.items()]
    return list(filter(None, starmap(_table, named)))


def _table(caption: str, first: str, shares: Sequence[Share]) -> Table | None:
    rows = [
        {
            "of": text(share.of),
            "Volumes": number(share.volumes),
            "Volumes that keep none": number(share.lost),
            "Slices": number(share.slices),
            "Kept": number(share.kept),
            "Share kept": number(share.kept / share.slices if share.slices else None, wording.percent),
        }
        for share in shares
    ]
    return table(caption, rows, lambda column: first if column == "of" else column)
