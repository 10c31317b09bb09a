"""What was asked of each arm, what it got, and the overlap between arms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctkit import ArmFacts, Run, StepFacts, quantities, redaction
from ctkit_reports import diagnostics, wording
from ctkit_reports.elements import Looks, Matrix, Table, number, table, text


def arms(run: Run, looks: Looks) -> dict[str, Any]:
    """What was asked of each arm, what it got, and which slices arms share."""
    if not run.arms:
        return {}
    return {
        "chosen": _chosen(run, looks),
        "overlap": _overlap(run),
        "draws": any(arm.facts["seeds"] for arm in run.arms),
    }


def _chosen(run: Run, looks: Looks) -> Table | None:
    rows = [
        {
            "Arm": looks.cell(arm.name),
            "How it chooses": text("; then ".join(_step(step) for step in arm.facts["steps"])),
            "Slices kept": number(arm.kept),
            "Share": number(arm.share, wording.percent),
            "Asked for": text(_asked(arm.facts)),
            "Draws": text(", ".join(map(str, arm.facts["seeds"]))),
            "Time to choose": number(arm.facts.get("seconds_select"), wording.duration),
        }
        for arm in run.arms
    ]
    return table("What each arm kept", rows)


def _step(step: StepFacts) -> str:
    """A step of an arm in words: "hash, threshold 6 bits, per volume"."""
    words = [str(step["use"])]
    if step["at"] is not None:
        words.append(f"{step['knob']} {wording.apart(step['at'], step['unit'] or '')}")
        words.append(f"per {'data set' if step['scope'] == 'dataset' else step['scope']}")
    parameters = redaction.redacted(step["parameters"])
    words += [f"{name} {value}" for name, value in parameters.items() if name != step["knob"] and value is not None]
    return ", ".join(words)


def _asked(facts: ArmFacts) -> str:
    """A budget in words, with the slices that it comes to."""
    if not facts["asked"]:
        return ""
    (kind, value), *_ = facts["asked"].items()
    words = wording.percent(value) if kind == "share" else f"as many as {value}" if kind == "like" else ""
    slices = facts.get("asked_slices") or (value if kind == "count" else None)
    return ", ".join(filter(None, [words, slices and quantities.count(slices, "slice")]))


def _overlap(run: Run) -> Matrix | None:
    chosen = [(arm.name, arm.selection) for arm in run.arms if arm.selection is not None]
    if len(chosen) < 2:
        return None
    names = tuple(name for name, _ in chosen)
    shares = diagnostics.overlap([selection for _, selection in chosen])
    cells = tuple(
        tuple((wording.index(share), float(np.nan_to_num(share))) for share in row) for row in shares.tolist()
    )
    return Matrix("Overlap between arms", names, cells)
