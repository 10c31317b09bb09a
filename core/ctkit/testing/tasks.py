"""The checks of tasks: parts that are apart, labels that exist, images of one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctkit.contracts import Params, Split, Task
from ctkit.contracts.judge import Judge, check_image, check_mask
from ctkit.promises import check_classes, check_splits
from ctkit.testing.plugins import build, check_check

IMAGES = 16  #: of each part that are looked at, from the first to the last


def check_task(plugin: type[Task[Any]], params: Params | None = None) -> None:
    """Check a task on the data its parameters name; of each part up to 16 images are looked at, the first and the last.

    Raises ``NonConformance`` for the first promise that is broken.
    """
    task, judge = build("task", plugin, params)
    _check_classes(judge, task)
    with judge.calling("splits"):
        splits = task.splits()
    _check_parts(judge, task, splits)
    _check_same(judge, splits, plugin(task.params).splits())
    for part, split in splits.items():
        for number in np.unique(np.linspace(0, len(split.names) - 1, IMAGES, dtype=int)).tolist():
            _check_image(judge, task, part, number)
            if task.masks:
                _check_mask(judge, task, part, number)
    _check_files(judge, task)
    check_check(judge, task)


def _check_classes(judge: Judge, task: Task[Any]) -> None:
    check_classes(judge, task)
    if task.mean_std is not None:
        mean, std = task.mean_std
        judge.must(
            0 <= mean <= 1 and 0 < std <= 1,
            f"mean_std must be on the scale 0..1, but it is {task.mean_std}; divide by 255",
        )


def _check_parts(judge: Judge, task: Task[Any], splits: Mapping[str, Split]) -> None:
    check_splits(judge, splits, task.classes)
    judge.must(
        all(bool(split.stacks) == task.masks for split in splits.values()),
        "parts must have stacks if, and only if, the task has masks, but masks is"
        f" {task.masks} and there are {sum(len(split.stacks) for split in splits.values())} stacks; see"
        " ctkit.contracts.Stack",
    )
    missing = set(range(task.masks, len(task.classes))) - set(
        splits["train"].labels.tolist()
    )  # masks: but the background
    judge.must(
        not missing,
        f"each class must have training images, but {', '.join(task.classes[number] for number in sorted(missing))}"
        " has none; remove the class, or split within classes",
    )


def _check_same(judge: Judge, splits: Mapping[str, Split], again: Mapping[str, Split]) -> None:
    same = splits.keys() == again.keys() and all(
        split.names == again[part].names
        and np.array_equal(split.labels, again[part].labels)
        and split.patients == again[part].patients
        for part, split in splits.items()
    )
    judge.must(same, "splits must be the same each time, but they differ; sort folders, and draw from a fixed seed")


def _check_image(judge: Judge, task: Task[Any], part: str, number: int) -> None:
    with judge.calling("image"):
        image = task.image(part, number)
    check_image(judge, image, f"image {number} of {part}")
    judge.must(
        np.array_equal(image, task.image(part, number)),
        "an image must be the same each time, but it differs; do not augment",
    )


def _check_mask(judge: Judge, task: Task[Any], part: str, number: int) -> None:
    with judge.calling("mask"):
        mask = task.mask(part, number)
    check_mask(judge, mask, len(task.classes), f"that of image {number} of {part}")
    judge.must(
        np.array_equal(mask, task.mask(part, number)),
        "a mask must be the same each time, but it differs; read it from where the image is",
    )


def _check_files(judge: Judge, task: Task[Any]) -> None:
    files = list(task.files())
    root = task.root
    judge.must(
        (root is None) == (not files),
        "files must give every file that affects the result, and none for synthetic data, but root is"
        f" {'None' if root is None else 'given'} and there are {len(files)} files;"
        " list the images and the tables of labels: they show when results are out of date",
    )
    for file in files:
        judge.must(
            root is not None and (root / file.path).is_file() and (root / file.path).stat().st_size == file.size,
            f"files must be relative to the root, with their sizes, but {file!r}; take them from the folder",
        )
