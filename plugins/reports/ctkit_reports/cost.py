"""What pre-training cost: steps x batch x size, which no load of a machine changes; and wall time, which one does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctkit import Run, RunTraining
from ctkit_reports import wording

SAME = 0.01  #: by which two costs may differ and still be called the same


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


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
