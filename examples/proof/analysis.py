"""The numbers of the study: scores of all backbones, and estimates of contrasts with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctkit import open_run
from ctkit.contracts import Floats, Predictions
from ctkit_tasks.metrics import measure, outcome_of
from ctkit_tasks.splitting import Units, units_of
from ctkit_tasks.statistics import against_zero, bootstrap, degrees_of_freedom, seed_part, variance_of

REDUNDANCIES = (1, 3, 10)
ARMS = ("all", "hash", "random", "one-per-volume")
UNTRAINED = "untrained"
MARGIN = 0.02  #: of AUC: what is smaller counts as no effect
LEVEL = 0.05


class Backbone(NamedTuple):
    """Which backbone a score is of; an untrained one is normalised as the slices of that redundancy are."""

    arm: str
    redundancy: int
    seed: int


@dataclass(frozen=True)
class Training:
    """What a training had and cost."""

    kept: int  #: slices of its arm
    steps: int
    batch: int
    alike: float  #: share of near-duplicate pairs in a batch, mean over the training
    backbone: str
    size: int  #: side of a view, pixels
    device: str


@dataclass(frozen=True)
class Sample:
    """AUCs of ``r`` backbones on one task."""

    backbones: tuple[Backbone, ...]
    values: Floats  #: (r,)
    resampled: Floats  #: (resamples, r) on resampled test patients
    freedom: int  #: of a variance over test patients

    def weights(self, cells: Mapping[tuple[str, int], float], seed: int) -> Floats:
        """Weights (r,) of one seed's backbones in a sum over cells of arm and redundancy."""
        return np.array([cells.get((one.arm, one.redundancy), 0.0) * (one.seed == seed) for one in self.backbones])

    def estimate(self, cells: Callable[[int], Mapping[tuple[str, int], float]], seeds: Sequence[int]) -> Estimate:
        """The mean over ``seeds`` of a weighted sum of scores; ``cells`` gives the weights for a seed.

        The variance is that over test patients, and that over seeds beyond it. As all backbones of a seed are weighted
        together, differences are paired by seed.
        """
        each = np.stack([self.weights(cells(seed), seed) for seed in seeds])  # (seeds, r)
        values, resampled = each @ self.values, self.resampled @ each.T
        images = variance_of(resampled.mean(axis=1))
        deviations = resampled - resampled.mean(axis=1, keepdims=True)
        part = seed_part(values, sum(variance_of(column) for column in deviations.T))
        freedom, _ = degrees_of_freedom(images, self.freedom, [part])
        tested = against_zero(float(values.mean()), images + part.alone, freedom)
        return Estimate(float(values.mean()), tested.low, tested.high, tested.p)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and p against zero: adjusted where it belongs to a family."""

    value: float
    low: float
    high: float
    p: float
    adjusted: float = math.nan

    @property
    def verdict(self) -> str:
        """What the interval says; with an adjusted p, that decides whether there is an effect."""
        if self.adjusted < LEVEL or (math.isnan(self.adjusted) and self.low * self.high > 0):
            return "helps" if self.value > 0 else "hurts"
        return f"no effect beyond {MARGIN:g}" if -MARGIN < self.low <= self.high < MARGIN else "undecided"


@dataclass(frozen=True)
class Study:
    """Everything that was measured."""

    samples: Mapping[str, Sample]  #: by task
    trainings: Mapping[Backbone, Training]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds for which every cell has a backbone."""
        there = set(self.trainings)
        return tuple(
            seed
            for seed in sorted({one.seed for one in there})
            if all(Backbone(*cell, seed) in there for cell in {(one.arm, one.redundancy) for one in there})
        )

    def mean(self, arm: str, redundancy: int, what: str) -> float:
        """Mean over seeds of a number of a cell's trainings."""
        found = [getattr(self.trainings[Backbone(arm, redundancy, seed)], what) for seed in self.seeds]
        return float(np.mean(found))

    def score(self, task: str, arm: str, redundancy: int) -> Estimate:
        """A cell's mean score."""
        return self.samples[task].estimate(lambda _: {(arm, redundancy): 1.0}, self.seeds)

    def difference(self, task: str, arm: str, other: str, redundancy: int) -> Estimate:
        """One arm less another, or less ``untrained``, at a redundancy."""
        cells = {(arm, redundancy): 1.0, (other, redundancy): -1.0}
        return self.samples[task].estimate(lambda _: cells, self.seeds)

    @property
    def redundancies(self) -> tuple[int, ...]:
        """Those that there are, ascending."""
        return tuple(sorted({one.redundancy for one in self.trainings}))

    def works(self, task: str) -> bool:
        """Whether the positive control holds: pre-training on all slices beats random weights at every redundancy."""
        return all(self.difference(task, "all", UNTRAINED, redundancy).low > 0 for redundancy in self.redundancies)

    def dose_response(self, task: str, arm: str, less: str | None = None) -> Estimate:
        """Slope of an arm's score, or of its difference from another's, for ten times the slices."""
        slope = slope_weights(np.log10(REDUNDANCIES))
        cells = {(arm, redundancy): float(w) for redundancy, w in zip(REDUNDANCIES, slope, strict=True)}
        if less is not None:
            cells |= {(less, redundancy): -float(w) for redundancy, w in zip(REDUNDANCIES, slope, strict=True)}
        return self.samples[task].estimate(lambda _: cells, self.seeds)

    def explanation(self, task: str) -> Estimate:
        """Slope of the score for one more percent of near-duplicate pairs, over the cells."""
        names = [(arm, redundancy) for arm in ARMS for redundancy in REDUNDANCIES]

        def cells(seed: int) -> Mapping[tuple[str, int], float]:
            shares = [100 * self.trainings[Backbone(*name, seed)].alike for name in names]
            return dict(zip(names, slope_weights(np.array(shares)).tolist(), strict=True))

        return self.samples[task].estimate(cells, self.seeds)


def slope_weights(x: Floats) -> Floats:
    """Weights (n,) that make the least-squares slope over ``x`` (n,) of n values."""
    centred = x - x.mean()
    return np.asarray(centred / (centred @ centred))


def adjusted(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Adjust p values together by Holm's method (1979)."""
    from ctkit.stages.compare import holm

    p = holm([one.p for one in estimates])
    return [Estimate(one.value, one.low, one.high, one.p, new) for one, new in zip(estimates, p, strict=True)]


# --- reading ------------------------------------------------------------------------------------------------------


def read_study(folders: Mapping[int, Path]) -> Study:
    """Read the run folders of the redundancies."""
    predictions: dict[str, dict[Backbone, Predictions]] = {}
    trainings: dict[Backbone, Training] = {}
    for redundancy, folder in folders.items():
        run = open_run(folder)
        for one in run.trainings:
            name = Backbone(_arm(one.arm, one.pretrain), redundancy, one.seed)
            facts, alike = one.facts, float(one.history["alike-pairs"][1].mean())
            recipe = facts["parameters"]["backbone"], facts["parameters"]["size"], facts["device"]
            trainings[name] = Training(facts["slices"], facts["steps"], facts["batch"], alike, *recipe)
        for table in run.predictions:
            name = Backbone(_arm(table.arm, table.pretrain), redundancy, table.seed)
            predictions.setdefault(table.task, {})[name] = table.read()
    return Study({task: sample_of(found) for task, found in predictions.items()}, trainings)


def _arm(arm: str, pretrain: str) -> str:
    return "one-per-volume" if pretrain == "one-per-volume" else arm


def sample_of(predictions: Mapping[Backbone, Predictions], resamples: int = 2000) -> Sample:
    """Score predictions of the same test images, and score them again on resamples of their patients."""
    names = tuple(sorted(predictions))
    first = predictions[names[0]]
    for name in names:
        if predictions[name].names != first.names:
            raise SystemExit(f"{name} was tested on other images than {names[0]}")
    outcomes = [outcome_of(predictions[name]) for name in names]
    units: Units = units_of(first.names, first.labels, first.patients)
    one: NDArray[Any] = np.ones((len(first.names), 1))
    values = np.array([measure(outcome, one)["auc"][0] for outcome in outcomes])
    freedom = len(units.label) - len(np.unique(units.label))
    return Sample(names, values, bootstrap(outcomes, units, resamples)["auc"], freedom)


def primary(study: Study) -> Iterator[tuple[str, str, str, int]]:
    """Task, arm, other and redundancy of each primary contrast, on the tasks whose positive control holds."""
    for task in study.samples:
        if study.works(task):
            for other in ("all", "random"):
                yield from ((task, "hash", other, redundancy) for redundancy in study.redundancies)
