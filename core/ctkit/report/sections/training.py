"""Pre-training: the curves of every number that was recorded, and what was noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctkit.report import diagnostics, figures, wording
from ctkit.report.elements import Looks, Plot, grouped, unique
from ctkit.report.figures import Curve
from ctkit.report.reading import Run, Training


@dataclass(frozen=True)
class Pretraining:
    """The fourth section."""

    methods: tuple[tuple[str, tuple[Plot, ...]], ...]
    notes: tuple[tuple[str, str], ...]  #: the note, and the trainings it was made on


def pretraining(run: Run, looks: Looks) -> Pretraining | None:
    """The curves of every number that training recorded, and what it noted."""
    if not run.trainings:
        return None
    methods = unique(training.pretrain for training in run.trainings)
    return Pretraining(
        tuple(
            (method, tuple(_curves([t for t in run.trainings if t.pretrain == method], looks))) for method in methods
        ),
        grouped(_notes(run.trainings), len(run.trainings)),
    )


def _curves(trainings: Sequence[Training], looks: Looks) -> Iterable[Plot]:
    names = sorted(
        {name for training in trainings for name in training.history}, key=lambda name: (name != "loss", name)
    )
    for name in names:
        lines = [
            Curve(looks[training.arm], *diagnostics.thinned(*training.history[name]))
            for training in trainings
            if name in training.history
        ]
        ends = "; ".join(
            f"{training.arm}, seed {training.seed}: ends at {wording.number(training.history[name][1][-1])}"
            for training in trainings
            if name in training.history
        )
        svg = figures.curves(wording.metric(name), "step", "", lines)
        yield Plot(svg, f"{wording.metric(name)} over steps. {ends}.")


def _notes(trainings: Sequence[Training]) -> Iterable[tuple[str, str]]:
    for training in trainings:
        for note in training.facts["notes"]:
            yield note, f"{training.arm}, {training.pretrain}, seed {training.seed}"
