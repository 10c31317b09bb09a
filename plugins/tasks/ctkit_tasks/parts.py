"""The images a protocol may use: what it fits on, chooses by and predicts, and the predictions it hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools, Evaluation, Ints, Predictions, Split
from ctkit.errors import DataError
from ctkit_tasks.findings import findings, pretraining_leak, pretraining_leaks
from ctkit_tasks.splitting import hold_out, label_subset, training_units, units_of

VALIDATION_SHARE = 0.15  #: of the training images, where a task has no validation part


@dataclass(frozen=True)
class Part:
    """Some images of one of a task's splits."""

    split: str  #: as ``Task.image`` takes it
    numbers: Ints  #: (n,) numbers in that split
    labels: Ints  #: (n,)


@dataclass(frozen=True)
class Parts:
    """What a protocol fits on, chooses by and predicts, and what a reader should know of it."""

    train: Part
    val: Part
    test: Part
    notes: tuple[str, ...]


def parts_of(job: Evaluation, *, masks: bool = False) -> Parts:
    """Choose the images of a job: its share of the training labels, all of the validation and the test images.

    A task without a validation part gives up a share of its training patients, or images, for it, near-duplicates
    on one side.
    Raises ``DataError`` where fewer than two classes are left to learn; of ``masks``, whose background is one, none.
    """
    splits = job.task.splits()
    notes: list[str] = []
    train = np.arange(len(splits["train"].labels))
    if "val" in splits:
        val = _part("val", splits["val"])
    else:
        held = hold_out(training_units(job.task), VALIDATION_SHARE, job.seed)
        train, val = train[~held], _part("train", splits["train"], train[held])
        notes.append(f"no validation part: {len(val.numbers)} of {len(held)} training images were held out for it")
    if job.labels < 1:
        chosen = train[_labelled(splits["train"], train, job)]
        notes.append(f"{len(chosen)} of {len(train)} training labels were used")
        train = chosen
    parts = Parts(_part("train", splits["train"], train), val, _part("test", splits["test"]), tuple(notes))
    _check(parts, job.task.classes, masks=masks)
    return parts


def predictions_of(job: Evaluation, probabilities: NDArray[np.floating[Any]], notes: Sequence[str]) -> Predictions:
    """Put probabilities (n, classes) for the whole test split together with what is known of its images.

    ``notes`` follow the task's ``findings``; warnings tell of leaks. Raises ``DataError`` where a probability is not
    finite.
    """
    test = job.task.splits()["test"]
    if not np.isfinite(probabilities).all():
        raise DataError("the predictions are NaN or infinite: the training diverged or the backbone gives NaN")
    plain = Predictions(
        names=test.names,
        labels=test.labels,
        probabilities=probabilities.astype(np.float64),
        classes=job.task.classes,
        positive=job.task.positive_class,
        patients=test.patients,
    )
    return _told(job, plain, notes)


def measured(
    job: Evaluation, measures: Sequence[Mapping[str, float]], notes: Sequence[str], warnings: Sequence[str]
) -> Predictions:
    """As ``predictions_of``, of measures of each volume of the test split, with warnings of them."""
    test = job.task.splits()["test"]
    first = accumulate((stack.slices for stack in test.stacks), initial=0)
    plain = Predictions(
        names=tuple(stack.name for stack in test.stacks),
        labels=np.zeros(len(test.stacks), np.int64),
        probabilities=np.zeros((len(test.stacks), 0)),
        classes=(),
        patients=test.patients and tuple(test.patients[place] for place, _ in zip(first, test.stacks, strict=False)),
        measures={name: np.array([one[name] for one in measures], np.float64) for name in measures[0]},
    )
    told = _told(job, plain, notes, findings(job.task).gaps)
    return replace(told, warnings=(*told.warnings, *warnings))


def _told(job: Evaluation, plain: Predictions, notes: Sequence[str], beside: Sequence[str] = ()) -> Predictions:
    found, leaks = findings(job.task), pretraining_leaks(job.task, job.slices)
    return replace(
        plain,
        notes=(*found.notes, *notes),
        warnings=(*(said for said in found.warnings if said not in beside), *pretraining_leak(job.task, leaks)),
        leaks=(*found.leaks, *leaks),
    )


def _labelled(split: Split, train: Ints, job: Evaluation) -> Bools:
    """Which of the images ``train`` keep their labels: of masks, which are drawn by volume, those of some patients."""
    names = [split.names[number] for number in train]
    patients = [split.patients[number] for number in train] if split.stacks and split.patients else None
    units = units_of(names, split.labels[train], patients)
    highest = np.zeros_like(units.label)
    np.maximum.at(highest, units.of_image, split.labels[train])
    ranks = [f"{number:09}" for number in range(len(highest))]
    return np.isin(units.of_image, label_subset(ranks, highest, job.labels, job.seed))


def _part(split: str, of: Split, numbers: Ints | None = None) -> Part:
    numbers = np.arange(len(of.labels)) if numbers is None else numbers
    return Part(split, numbers, of.labels[numbers])


def _check(parts: Parts, classes: Sequence[str], *, masks: bool) -> None:
    for part, name in ((parts.val, "validation"), (parts.test, "test")):
        if not len(part.labels):
            raise DataError(f"the {name} part holds no image: each class needs two training images or more")
    present = np.unique(parts.train.labels)
    if masks and present.any():  # an image that shows a class shows background too
        return
    if len(present) < 2:
        what = f"only class {classes[present[0]]}" if len(present) else "no image"
        raise DataError(f"the training part holds {what}; a classifier needs two classes or more")
