"""Protocols: a backbone and a task become predictions, and predictions scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from typing import Protocol as Shape

import numpy as np

from ctkit.contracts.method import Rows
from ctkit.contracts.params import Floats, Ints, P, Plugin
from ctkit.contracts.task import Task


@dataclass(frozen=True)
class Evaluation:
    """One job for a protocol: this backbone on this task."""

    task: Task[Any]
    backbone: Path
    folder: Path  #: of this backbone on this task, survives a kill: keep here what other shares, seeds, protocols reuse
    labels: float  #: share of the training labels to use, class-balanced and nested
    seed: int
    device: str
    workers: int
    progress: Callable[[int, int], None]
    slices: Rows | None = None  #: what the backbone was trained on; None for a baseline, or where it is stored no more


PRETRAINING = "pretraining"  #: as ``Leak.other_split``: the slices that a backbone was trained on


class Leak(NamedTuple):
    """An image that is a copy or near-duplicate of one it should not be: a row of ``leaks.csv``."""

    task: str  #: filled by the core
    arm: str  #: filled by the core, where it is of the arm's pre-training
    split: str
    name: str
    label: str
    other_split: str
    other_name: str  #: of a slice of the pre-training, its number among those of the ``Evaluation``
    other_label: str
    distance: int  #: bits of the hash that differ


@dataclass(frozen=True)
class Predictions:
    """What every score is computed from: probabilities for the test images, or measures of the test volumes.

    With measures, the names are those of the stacks, labels are 0, and there are no classes.
    """

    names: tuple[str, ...]  #: (n,)
    labels: Ints  #: (n,)
    probabilities: Floats  #: (n, classes)
    classes: tuple[str, ...]
    positive: str | None = None
    patients: tuple[str, ...] | None = None  #: (n,) intervals resample patients where they are known
    notes: tuple[str, ...] = ()  #: how they came about
    warnings: tuple[str, ...] = ()  #: what speaks against believing the scores: leaks, missing classes, lost images
    leaks: tuple[Leak, ...] = ()  #: what the warnings of leaks speak of
    measures: Mapping[str, Floats] = field(default_factory=dict)  #: (n,) by metric, such as the Dice coefficient
    seed: int | None = None  #: of pre-training, set where runs are compared: those of one seed are repeats


@dataclass(frozen=True)
class Score:
    """A metric with its 95 % interval, NaN where the test images tell none."""

    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A metric of an arm less the same metric of the reference arm, with interval, p value and the test's name."""

    metric: str
    difference: float
    low: float
    high: float
    p: float
    test: str


class _Measured(Shape):
    @property
    def metric(self) -> str: ...


_MAIN = ("auc", "auroc", "balanced_accuracy", "accuracy")


def main_metric(rows: Iterable[_Measured]) -> str | None:
    """The metric that the answer is given in, of scores or differences: AUC where there is one."""
    names = list(dict.fromkeys(row.metric for row in rows))
    return next((name for name in _MAIN if name in names), next(iter(names), None))


class Protocol(Plugin[P], ABC):
    """A way to score a backbone on a task. ``scores`` and ``compare`` are arithmetic on predictions alone."""

    masks: ClassVar[bool] = False  #: whether it needs a task with masks

    @abstractmethod
    def predict(self, job: Evaluation) -> Predictions:
        """Fit on the task's training images and predict its test images."""

    @abstractmethod
    def scores(self, runs: Sequence[Predictions]) -> tuple[Score, ...]:
        """Scores of one run, or of several seeds pooled: the mean over runs, with an interval of that mean."""

    @abstractmethod
    def compare(self, arm: Sequence[Predictions], reference: Sequence[Predictions]) -> tuple[Difference, ...]:
        """Paired differences on the same test images, runs of ``arm`` against runs of ``reference``."""


@dataclass(frozen=True)
class Mistake:
    """A test image that is put into a wrong class with confidence."""

    row: int  #: of the prediction files, counted from 1
    true: str
    predicted: str
    probability: float  #: of the class predicted, mean over runs


def worst_mistakes(runs: Sequence[Predictions], most: int = 5) -> list[Mistake]:
    """Images whose mean prediction is wrong, the most confident ones first; runs must hold the same images."""
    first = runs[0]
    if first.measures:
        return []
    mean = np.mean([run.probabilities for run in runs], axis=0)
    predicted, confidence = mean.argmax(axis=1), mean.max(axis=1)
    wrong = np.flatnonzero(predicted != first.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        Mistake(int(i) + 1, first.classes[first.labels[i]], first.classes[predicted[i]], float(confidence[i]))
        for i in worst
    ]
