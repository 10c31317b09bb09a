"""What was asked of each arm, what it got and cost; scores against slices; overlap between arms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ctkit import ArmFacts, Run, RunTraining, StepFacts, quantities, redaction
from ctkit.contracts import main_metric
from ctkit_reports import cost, diagnostics, figures, wording
from ctkit_reports.elements import Cell, Looks, Matrix, Plot, Table, by, number, table, text, title, unique
from ctkit_reports.figures import Point


def arms(run: Run, looks: Looks) -> dict[str, Any]:
    """What was asked of each arm, what it got and what it cost; scores against slices; overlap."""
    if not run.arms:
        return {}
    return {
        "chosen": _chosen(run, looks),
        "trained": _trained(run, looks),
        "plots": list(_trade_off(run, looks)),
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


def _trained(run: Run, looks: Looks) -> Table | None:
    groups = by(lambda training: (training.arm, training.pretrain), run.trainings)
    rows = [_trained_row(run, looks, arm, method, group) for (arm, method), group in groups.items()]
    return table("Cost of pre-training, as a share of the reference: means over seeds", rows)


def _trained_row(run: Run, looks: Looks, arm: str, method: str, group: Sequence[RunTraining]) -> dict[str, Cell]:
    def mean(fact: Literal["steps", "epochs", "batch", "seconds", "slices_per_second"]) -> float:
        return float(np.mean([training.facts[fact] for training in group]))

    return {
        "Arm": looks.cell(arm),
        "Method": text(method),
        "Seeds": number(len(group)),
        "Steps": number(mean("steps"), quantities.count),
        "Epochs": number(mean("epochs")),
        "Batch": number(mean("batch")),
        "Cost": number(1 / cost.saving(run, arm, method), wording.percent),
        "Time": number(mean("seconds"), wording.duration),
        "Slices/s": number(mean("slices_per_second")),
        "Device": text(wording.listing(unique(str(training.facts["device"]) for training in group))),
    }


def _trade_off(run: Run, looks: Looks) -> Iterable[Plot]:
    metric = main_metric(run.score_rows)
    if metric is None:
        return
    pooled = [row for row in run.score_rows if row.pooled and row.metric == metric]
    for place in dict.fromkeys(row.place for row in pooled):
        found = [(row, arm) for row in pooled if row.place == place and (arm := run.arm(row.arm))]
        if not found:  # a baseline was trained on no slices
            continue
        points = [Point(looks[arm.name], arm.kept, row.value, row.ci_low, row.ci_high) for row, arm in found]
        name = title(run, place)
        svg = figures.scores_against_slices(name, wording.metric(metric), points)
        values = (
            f"{row.arm} {wording.score(row.value)} with {quantities.count(arm.kept, 'slice')}" for row, arm in found
        )
        yield Plot(svg, f"{wording.metric(metric)} against slices kept, {name}: {'; '.join(values)}.")


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
