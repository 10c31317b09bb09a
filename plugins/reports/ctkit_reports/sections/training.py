"""Pre-training: how it went and what it took, the curves of every number that was recorded, and what was noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ctkit import Run, RunTraining
from ctkit_reports import diagnostics, figures, wording
from ctkit_reports.elements import Cell, Looks, Plot, Table, by, grouped, number, table, text
from ctkit_reports.figures import Curve

#: Curves that come first, with their titles and axes; others follow under the names that the method gave them.
CURVES = {
    "loss": ("Loss", ""),
    "mean-loss": ("Mean loss of each hundredth of the run", ""),
    "alike-pairs": ("Near-duplicate pairs in a batch", "share of pairs"),
    "feature-std": ("Spread of features", "standard deviation, own slices"),
    "effective-rank": ("Effective rank of features", "dimensions, own slices"),
}
WATCHED = "knn-"  #: what the curve of a task that was watched is called, before the task's id


def pretraining(run: Run, looks: Looks) -> dict[str, Any]:
    """The curves of every number that training recorded, and what it noted."""
    if not run.trainings:
        return {}
    by_method = by(lambda training: training.pretrain, run.trainings)
    recorded = {name for training in run.trainings for name in training.history}
    notes = ((note, f"{t.arm}, {t.pretrain}, seed {t.seed}") for t in run.trainings for note in t.facts["notes"])
    return {
        "went": _went(run, looks),
        "explained": "alike-pairs" in recorded,
        "watched": any(name.startswith(WATCHED) for name in recorded),
        "methods": [(method, list(_curves(trainings, looks))) for method, trainings in by_method.items()],
        "notes": grouped(notes, len(run.trainings)),
    }


def _curves(trainings: Sequence[RunTraining], looks: Looks) -> Iterable[Plot]:
    known = {name for training in trainings for name in training.history}
    for name in [*(name for name in CURVES if name in known), *sorted(known - CURVES.keys())]:
        title, axis = _words(name)
        found = [training for training in trainings if name in training.history]
        lines = [Curve(looks[training.arm], *diagnostics.thinned(*training.history[name])) for training in found]
        ends = "; ".join(
            f"{training.arm}, seed {training.seed}: ends at {wording.number(training.history[name][1][-1])}"
            for training in found
        )
        yield Plot(figures.curves(title, "step", axis, lines), f"{title} over steps. {ends}.")


def _words(curve: str) -> tuple[str, str]:
    """Title and axis of a curve."""
    if curve.startswith(WATCHED):
        return f"k-NN accuracy: {curve.removeprefix(WATCHED)}", "share of training images"
    return CURVES.get(curve, (wording.metric(curve), ""))


def _went(run: Run, looks: Looks) -> Table | None:
    groups = by(lambda training: (training.arm, training.pretrain), run.trainings)
    rows = [
        {"Arm": looks.cell(arm), "Method": text(method), **_measures(group)} for (arm, method), group in groups.items()
    ]
    return table("Pre-training: means over seeds", rows)


def _measures(group: Sequence[RunTraining]) -> dict[str, Cell]:
    """What the columns after the method say of the trainings of one arm and method."""
    collapsed = sum(bool(training.facts.get("collapsed")) for training in group)
    return {
        "Seeds": number(len(group)),
        "Loss at the end": number(_mean_curve(group, "loss", end=True)),
        "Near-duplicate pairs": number(_mean_curve(group, "alike-pairs"), wording.percent),
        "Spread of features": number(_mean_curve(group, "feature-std", end=True)),
        "Effective rank": number(_mean_curve(group, "effective-rank", end=True)),
        "Slices/s": number(_mean_fact(group, "slices_per_second")),
        "Waiting for data": number(_mean_fact(group, "waiting"), wording.percent),
        "Energy": number(_mean_fact(group, "joules"), wording.energy),
        "GPU memory": number(_mean_fact(group, "peak_bytes"), lambda memory: f"{memory / 2**30:.1f} GiB"),
        "Collapsed": text(f"{collapsed} of {len(group)}" if collapsed else "", "worse" if collapsed else ""),
    }


def _mean_fact(
    group: Sequence[RunTraining], name: Literal["slices_per_second", "waiting", "joules", "peak_bytes"]
) -> float:
    """Mean of a number over trainings, NaN where one does not know it."""
    values = [training.facts.get(name) for training in group]
    return float("nan") if None in values else float(np.mean([float(value) for value in values if value is not None]))


def _mean_curve(group: Sequence[RunTraining], name: str, *, end: bool = False) -> float:
    """Mean over trainings of a curve's last value, or of all its values; NaN where one lacks the curve."""
    curves = [training.history[name][1] for training in group if name in training.history]
    means = [curve[-1] if end else curve.mean() for curve in curves]
    return float(np.mean(means)) if len(means) == len(group) else float("nan")
