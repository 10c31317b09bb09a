"""What pre-training cost: steps x batch x size, which no load of a machine changes; and wall time, which one does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctkit import Run, RunTraining, quantities
from ctkit_reports import wording

SAME = 0.01  #: by which two costs may differ and still be called the same
UNEQUAL = 0.2  #: by which slices per second may differ and times still compare


def trainings_of(run: Run, arm: str, pretrain: str) -> list[RunTraining]:
    """The trainings of an arm by a method, one for each seed."""
    return [training for training in run.trainings if (training.arm, training.pretrain) == (arm, pretrain)]


def seconds(run: Run, arm: str, pretrain: str) -> float:
    """Mean wall time over seeds, NaN where there is none."""
    return _mean([training.facts["seconds"] for training in trainings_of(run, arm, pretrain)])


def cost(run: Run, arm: str, pretrain: str) -> float:
    """Steps times batch times the side of a view in pixels, mean over seeds; NaN where there is no training.

    A method that has no parameter ``size`` counts slices alone.
    """
    found = [training.facts for training in trainings_of(run, arm, pretrain)]
    sizes = [facts["parameters"].get("size") for facts in found]
    sides = [size if isinstance(size, int | float) else 1 for size in sizes]
    return _mean([facts["steps"] * facts["batch"] * side for facts, side in zip(found, sides, strict=True)])


def saving(run: Run, arm: str, pretrain: str) -> float:
    """Cost of the reference arm over this arm's; 1 where they cost the same, NaN where one is missing."""
    own, other = cost(run, arm, pretrain), cost(run, run.reference or "", pretrain)
    ratio = other / own if own and other else float("nan")
    return 1.0 if abs(ratio - 1) < SAME else ratio


def in_words(run: Run, arm: str, pretrain: str) -> str:
    """What a method cost on an arm: "5.4 × less cost than “all” (equal epochs)"; "" where nothing compares."""
    ratio = saving(run, arm, pretrain)
    if np.isnan(ratio):
        return ""
    if ratio == 1:
        return f"the same cost as “{run.reference}” (equal steps): less data, not less work"
    own, other = (trainings_of(run, name, pretrain) for name in (arm, run.reference or ""))
    epochs = [_mean([training.facts["epochs"] for training in group]) for group in (own, other)]
    equal = " (equal epochs)" if abs(epochs[0] - epochs[1]) < 0.05 * max(epochs) else ""
    share = f"{wording.times(ratio)} less" if ratio > 1 else f"{wording.times(1 / ratio)} more"
    return f"{share} cost than “{run.reference}”{equal}"


def sentence(run: Run, arm: str, pretrain: str) -> str:
    """The work of a training, and the time that it took as an aside, with what makes times no measure."""
    own = trainings_of(run, arm, pretrain)
    steps, batch = (_mean([training.facts[name] for training in own]) for name in ("steps", "batch"))
    work = f"Pre-training with {pretrain}: {quantities.count(steps, 'step')} of {quantities.count(batch, 'slice')}"
    time = f"Wall time {wording.duration(seconds(run, arm, pretrain))}"
    if arm == run.reference or run.reference is None or not trainings_of(run, run.reference, pretrain):
        return f"{work}. {time}."
    other = trainings_of(run, run.reference, pretrain)
    time += f", of “{run.reference}” {wording.duration(seconds(run, run.reference, pretrain))}"
    return f"{work}, {in_words(run, arm, pretrain)}. {time}{_incomparable(own, other)}."


def _incomparable(own: Sequence[RunTraining], other: Sequence[RunTraining]) -> str:
    """Why two times do not compare, or nothing."""
    if len({training.facts["device"] for training in (*own, *other)}) > 1:
        return "; the times cannot be compared: the devices differ"
    rates = [_mean([training.facts["slices_per_second"] for training in group]) for group in (own, other)]
    if max(rates) <= (1 + UNEQUAL) * min(rates):
        return ""
    pair = f"{wording.number(rates[0])} and {wording.number(rates[1])} slices per second"
    return f"; the times cannot be compared: the machine did {pair}, because of its load or of start-up"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
