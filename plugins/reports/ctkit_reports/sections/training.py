"""Pre-training: how it went and what it took, the curves of every number that was recorded, and what was noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ctkit import Run, RunTraining, quantities
from ctkit_reports import cost, diagnostics, figures, wording
from ctkit_reports.elements import Cell, Looks, Plot, Table, by, grouped, number, table, text, unique
from ctkit_reports.figures import Curve

#: Curves that come first, with their titles and axes; others follow under the names that the method gave them.
CURVES = {
    "loss": ("Loss", ""),
    "mean-loss": ("Mean loss of each hundredth of the run", ""),
    "alike-pairs": ("Near-duplicate pairs in a batch", "share of pairs"),
    "feature-std": ("Spread of features", "standard deviation, own slices"),
    "effective-rank": ("Effective rank of features", "dimensions, own slices"),
}
Fact = Literal["steps", "epochs", "batch", "seconds", "slices_per_second", "waiting", "joules", "peak_bytes"]
WATCHED = "knn-"  #: what the curve of a task that was watched is called, before the task's id


def pretraining(run: Run, looks: Looks) -> dict[str, Any]:
    """The curves of every number that training recorded, and what it noted."""
    if not run.trainings:
        return {}
    by_method = by(lambda training: training.pretrain, run.trainings)
    recorded = {name for training in run.trainings for name in training.history}
    notes = ((note, f"{t.arm}, {t.pretrain}, seed {t.seed}") for t in run.trainings for note in t.facts["notes"])
    return {
        "tables": _tables(run, looks),
        "explained": "alike-pairs" in recorded,
        "watched": any(name.startswith(WATCHED) for name in recorded),
        "methods": [(method, list(_curves(trainings, looks))) for method, trainings in by_method.items()],
        "notes": grouped(notes, len(run.trainings)),
    }


def _curves(trainings: Sequence[RunTraining], looks: Looks) -> Iterable[Plot]:
    known = {name for training in trainings for name in training.history}
    for name in [*(name for name in CURVES if name in known), *sorted(known - CURVES.keys())]:
        title, axis = _words(name)
        found = {f"{t.arm}, seed {t.seed}": t for t in trainings if len(t.history.get(name, ((),))[0]) > 1}
        if not found:  # single points draw no curve; the table has them
            continue
        lines = [Curve(looks[t.arm], *diagnostics.thinned(*t.history[name]), own) for own, t in found.items()]
        ends = "; ".join(f"{own}: ends at {wording.number(t.history[name][1][-1])}" for own, t in found.items())
        yield Plot(figures.curves(title, "step", axis, lines), f"{title} over steps. {ends}.")


def _words(curve: str) -> tuple[str, str]:
    """Title and axis of a curve."""
    if curve.startswith(WATCHED):
        return f"k-NN accuracy: {curve.removeprefix(WATCHED)}", "share of training images"
    return CURVES.get(curve, (wording.metric(curve), ""))


def _tables(run: Run, looks: Looks) -> list[Table | None]:
    """What each arm's trainings cost, and how they went: means over seeds."""
    groups = by(lambda training: (training.arm, training.pretrain), run.trainings)
    costs, measures = [], []
    for (arm, method), group in groups.items():
        named = {"Arm": looks.cell(arm), "Method": text(method), "Seeds": number(len(group))}
        costs.append(named | _costs(group, 1 / cost.saving(run, arm, method)))
        measures.append(named | _measures(group))
    return [
        table("Cost of pre-training, as a share of the reference", costs),
        table("How pre-training went", measures),
    ]


def _costs(group: Sequence[RunTraining], share: float) -> dict[str, Cell]:
    return {
        "Steps": number(_mean_fact(group, "steps"), quantities.count),
        "Epochs": number(_mean_fact(group, "epochs")),
        "Batch": number(_mean_fact(group, "batch")),
        "Cost": number(share, wording.percent),
        "Time": number(_mean_fact(group, "seconds"), wording.duration),
        "Slices/s": number(_mean_fact(group, "slices_per_second")),
        "Waiting for data": number(_mean_fact(group, "waiting"), wording.percent),
        "Energy": number(_mean_fact(group, "joules"), wording.energy),
        "GPU memory": number(_mean_fact(group, "peak_bytes"), lambda memory: f"{memory / 2**30:.1f} GiB"),
        "Device": text(wording.listing(unique(str(training.facts["device"]) for training in group))),
    }


def _measures(group: Sequence[RunTraining]) -> dict[str, Cell]:
    collapsed = sum(bool(training.facts.get("collapsed")) for training in group)
    return {
        "Loss at the end": number(_mean_curve(group, "loss", end=True)),
        "Near-duplicate pairs": number(_mean_curve(group, "alike-pairs"), wording.percent),
        "Spread of features": number(_mean_curve(group, "feature-std", end=True)),
        "Effective rank": number(_mean_curve(group, "effective-rank", end=True)),
        "Collapsed": text(f"{collapsed} of {len(group)}" if collapsed else "", "worse" if collapsed else ""),
    }


def _mean_fact(group: Sequence[RunTraining], name: Fact) -> float:
    """Mean of a number over trainings, NaN where one does not know it."""
    values = [training.facts.get(name) for training in group]
    return float("nan") if None in values else float(np.mean([float(value) for value in values if value is not None]))


def _mean_curve(group: Sequence[RunTraining], name: str, *, end: bool = False) -> float:
    """Mean over trainings of a curve's last value, or of all its values; NaN where one lacks the curve."""
    curves = [training.history[name][1] for training in group if name in training.history]
    means = [curve[-1] if end else curve.mean() for curve in curves]
    return float(np.mean(means)) if len(means) == len(group) else float("nan")
