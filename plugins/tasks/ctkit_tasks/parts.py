"""The images a protocol may use: what it fits on, chooses by and predicts, and the predictions it hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Evaluation, Ints, Predictions, Split
from ctkit.errors import DataError
from ctkit_tasks.findings import findings, pretraining_leak, pretraining_leaks
from ctkit_tasks.splitting import hold_out, label_subset, training_units

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


def parts_of(job: Evaluation) -> Parts:
    """Choose the images of a job: its share of the training labels, all of the validation and the test images.

    A task without a validation part gives up a share of its training patients, or images, for it, near-duplicates
    on one side.
    Raises ``DataError`` where fewer than two classes are left to learn.
    """
    splits = job.task.splits()
    notes: list[str] = []
    train = np.arange(len(splits["train"].labels))
    if "val" in splits:
        val = Part("val", np.arange(len(splits["val"].labels)), splits["val"].labels)
    else:
        held = hold_out(training_units(job.task), VALIDATION_SHARE, job.seed)
        train, val = train[~held], _part("train", splits["train"], train[held])
        notes.append(f"no validation part: {len(val.numbers)} of {len(held)} training images were held out for it")
    if job.labels < 1:
        names = [splits["train"].names[number] for number in train]
        chosen = train[label_subset(names, splits["train"].labels[train], job.labels, job.seed)]
        notes.append(f"{len(chosen)} of {len(train)} training labels were used")
        train = chosen
    parts = Parts(
        _part("train", splits["train"], train),
        val,
        Part("test", np.arange(len(splits["test"].labels)), splits["test"].labels),
        tuple(notes),
    )
    _check(parts, job.task.classes)
    return parts


def predictions_of(job: Evaluation, probabilities: NDArray[np.floating[Any]], notes: Sequence[str]) -> Predictions:
    """Put probabilities (n, classes) for the whole test split together with what is known of its images.

    ``notes`` follow the task's ``findings``; warnings tell of leaks. Raises ``DataError`` where a probability is not
    finite.
    """
    test = job.task.splits()["test"]
    if not np.isfinite(probabilities).all():
        raise DataError("the predictions are NaN or infinite: the training diverged or the backbone gives NaN")
    found, leaks = findings(job.task), pretraining_leaks(job.task, job.slices)
    return Predictions(
        names=test.names,
        labels=test.labels,
        probabilities=probabilities.astype(np.float64),
        classes=job.task.classes,
        positive=job.task.positive_class,
        patients=test.patients,
        notes=(*found.notes, *notes),
        warnings=(*found.warnings, *pretraining_leak(job.task, leaks)),
        leaks=(*found.leaks, *leaks),
    )


def _part(split: str, of: Split, numbers: Ints) -> Part:
    return Part(split, numbers, of.labels[numbers])


def _check(parts: Parts, classes: Sequence[str]) -> None:
    for part, name in ((parts.val, "validation"), (parts.test, "test")):
        if not len(part.labels):
            raise DataError(f"the {name} part holds no image: each class needs two training images or more")
    present = np.unique(parts.train.labels)
    if len(present) < 2:
        what = f"only class {classes[present[0]]}" if len(present) else "no image"
        raise DataError(f"the training part holds {what}; a classifier needs two classes or more")
