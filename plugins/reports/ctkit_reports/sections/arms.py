"""What was asked of each arm, what it got and cost; scores against slices; overlap between arms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctkit import ArmFacts, Run, RunTraining, StepFacts, quantities, redaction
from ctkit.contracts import main_metric
from ctkit_reports import cost, diagnostics, figures, naming, wording
from ctkit_reports.elements import Cell, Looks, Matrix, Plot, Table, number, table, text, unique
from ctkit_reports.figures import Point


@dataclass(frozen=True)
class Arms:
    """The second section."""

    chosen: Table | None
    trained: Table | None
    plots: tuple[Plot, ...]
    overlap: Matrix | None
    draws: bool


def arms(run: Run, looks: Looks) -> Arms | None:
    """What was asked of each arm, what it got and what it cost; scores against slices; overlap."""
    if not run.arms:
        return None
    return Arms(
        _chosen(run, looks), _trained_table(run, looks), tuple(_trade_off(run, looks)), _overlap(run), _draws(run)
    )


def _draws(run: Run) -> bool:
    return any(arm.facts["seeds"] for arm in run.arms)


def _chosen(run: Run, looks: Looks) -> Table | None:
    rows = [
        [
            looks.cell(arm.name),
            text("; then ".join(_step(step) for step in arm.facts["steps"])),
            number(arm.kept),
            number(arm.share, wording.percent(arm.share)),
            text(_asked(arm.facts)),
            text(", ".join(map(str, arm.facts["seeds"]))),
            _seconds(arm.facts.get("seconds_select")),
        ]
        for arm in run.arms
    ]
    columns = ("Arm", "How it chooses", "Slices kept", "Share", "Asked for", "Draws", "Time to choose")
    return table("What each arm kept", columns, rows)


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


def _seconds(value: float | None) -> Cell:
    return number(float("nan")) if value is None else number(value, wording.duration(value))


def _trained_table(run: Run, looks: Looks) -> Table | None:
    groups: dict[tuple[str, str], list[RunTraining]] = {}
    for training in run.trainings:
        groups.setdefault((training.pretrain, training.arm), []).append(training)
    rows = [_trained_row(run, looks, arm, method, group) for (method, arm), group in groups.items()]
    columns = ("Arm", "Method", "Seeds", "Steps", "Epochs", "Batch", "Cost", "Time", "Slices/s", "Device")
    return table("What pre-training cost, as a share of the reference: means over seeds", columns, rows)


def _trained_row(run: Run, looks: Looks, arm: str, method: str, group: Sequence[RunTraining]) -> list[Cell]:
    def mean(fact: Literal["steps", "epochs", "batch", "seconds", "slices_per_second"]) -> float:
        return float(np.mean([training.facts[fact] for training in group]))

    share = 1 / cost.saving(run, arm, method)
    return [
        looks.cell(arm),
        text(method),
        number(len(group)),
        number(mean("steps"), quantities.count(mean("steps"))),
        number(mean("epochs")),
        number(mean("batch")),
        number(share, wording.percent(share)),
        number(mean("seconds"), wording.duration(mean("seconds"))),
        number(mean("slices_per_second")),
        text(wording.listing(unique(str(training.facts["device"]) for training in group))),
    ]


def _trade_off(run: Run, looks: Looks) -> Iterable[Plot]:
    metric = main_metric(run.scores)
    if metric is None:
        return
    pooled = [row for row in run.scores if row.pooled and row.metric == metric]
    for place in dict.fromkeys(row.place for row in pooled):
        found = [(row, arm) for row in pooled if row.place == place and (arm := run.arm(row.arm))]
        if not found:  # a baseline was trained on no slices
            continue
        points = [Point(looks[arm.name], arm.kept, row.value, row.ci_low, row.ci_high) for row, arm in found]
        title = naming.title(run, place)
        svg = figures.scores_against_slices(title, wording.metric(metric), points)
        values = (
            f"{row.arm} {wording.score(row.value)} with {quantities.count(arm.kept, 'slice')}" for row, arm in found
        )
        yield Plot(svg, f"{wording.metric(metric)} against slices kept, {title}: {'; '.join(values)}.")


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
