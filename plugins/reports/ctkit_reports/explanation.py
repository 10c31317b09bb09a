"""The page that explains one arm, in the report's style: ``explain.html`` in the arm's folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctkit import RevisitedArm, hookspecs, quantities
from ctkit.files import write_text
from ctkit_reports import figures, pictures, wording
from ctkit_reports.elements import Plot, Table, number, table, text
from ctkit_reports.explaining import THUMBNAILS, Explanation, Images, Pair, Profile, Share
from ctkit_reports.figures import Look
from ctkit_reports.page import lay_out

_TITLES = {"threshold": "At the threshold", "volumes": "Along volumes", "shares": "Who is kept"}
_LOOK = Look(1)


def write_explanation(path: Path, explanation: Explanation) -> None:
    """Write the page. It loads nothing from elsewhere and names no patient, source file or path."""
    content = {
        "name": explanation.run.name,
        "version": hookspecs.VERSION,
        "summary": _summary(explanation),
        "threshold": _threshold(explanation),
        "volumes": [_strip(explanation, one) for one in explanation.profiles],
        "shares": _tables(explanation),
    }
    write_text(path, lay_out("explanation of an arm", _TITLES, content))


def _summary(explanation: Explanation) -> str:
    run = explanation.run
    kept, slices = int(run.selection.kept.sum()), len(run.index)
    of, share = quantities.count(slices, "slice"), wording.percent(kept / max(slices, 1))
    words = [run.reducer, _setting(run), f"keeps {quantities.count(kept)} of {of} ({share})"]
    return " · ".join(filter(None, words))


def _setting(run: RevisitedArm) -> str:
    at = run.selection.at[-1]
    return "" if run.knob is None or math.isnan(at) else f"{run.knob.name} {wording.apart(at, run.knob.unit)}"


def _threshold(explanation: Explanation) -> dict[str, Any]:
    alike = _side(
        explanation,
        "Just below the threshold: the left slice is dropped",
        "Dropped slices that are farthest from the kept slice on their right, which represents them. If these pairs"
        " differ in ways that matter to you, the threshold is too large.",
        explanation.alike,
    )
    apart = _side(
        explanation,
        "Just above the threshold: both slices are kept",
        "Kept slices that a larger threshold would drop first, next to the slice that would represent them. If these"
        " pairs show the same, the threshold is too small.",
        explanation.apart,
    )
    sides = [side for side in (alike, apart) if side["pairs"]]
    return {"statement": _setting(explanation.run), "sides": sides} if sides else {}


def _side(explanation: Explanation, title: str, note: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Pairs on one side of the threshold."""
    images, unit = explanation.images, explanation.run.knob.unit if explanation.run.knob else ""
    shown = [pair for pair in pairs if pair.one in images and pair.stand_in in images]
    return {"title": title, "note": note, "pairs": [_pair(images, pair, unit) for pair in shown]}


def _pair(images: Images, pair: Pair, unit: str) -> tuple[str, str, str]:
    apart = wording.apart(pair.distance, unit)
    return pictures.as_uri(images[pair.one]), pictures.as_uri(images[pair.stand_in]), apart


def _strip(explanation: Explanation, one: Profile) -> dict[str, Any]:
    """One volume: its profile, and pictures along it with the number of the slice and whether it is kept."""
    thumbnails = [
        (pictures.as_uri(explanation.images[number]), one.index[i], one.kept[i])
        for i in pictures.spread(len(one.slices), THUMBNAILS)
        if (number := int(one.slices[i])) in explanation.images
    ]
    statement = f"{quantities.count(int(one.kept.sum()))} of {quantities.count(len(one.kept), 'slice')} kept"
    plot = _profile(explanation, one)
    return {"digest": one.digest, "statement": statement, "plot": plot, "thumbnails": thumbnails}


def _profile(explanation: Explanation, one: Profile) -> Plot | None:
    values = one.previous, one.stand_in
    if not np.isfinite(np.concatenate(values)).any():
        return None
    knob, at = explanation.run.knob, explanation.run.selection.at[-1]
    unit = wording.formula(knob.unit) if knob else ""
    svg = figures.profile("", unit, one.index.astype(np.float64), values, one.kept, at, _LOOK)
    median = wording.number(float(np.nanmedian(one.previous))) if np.isfinite(one.previous).any() else "unknown"
    return Plot(svg, f"Distances along volume {one.digest}: to the slice before, median {median}; kept slices marked.")


def _tables(explanation: Explanation) -> list[Table]:
    named = [("Slices with findings, in volumes with annotations", "Finding", explanation.findings)]
    named += [(f"By {name}", name.capitalize(), shares) for name, shares in explanation.traits.items()]
    found = (_table(caption, first, shares) for caption, first, shares in named)
    return [one for one in found if one]


def _table(caption: str, first: str, shares: Sequence[Share]) -> Table | None:
    rows = [
        {
            "of": text(share.of),
            "Volumes": number(share.volumes),
            "Slices": number(share.slices),
            "Kept": number(share.kept),
            "Share kept": number(share.kept / share.slices if share.slices else None, wording.percent),
        }
        for share in shares
    ]
    return table(caption, rows, lambda column: first if column == "of" else column)
