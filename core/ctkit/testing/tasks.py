"""The checks of tasks: parts that are apart, labels that exist, images of one form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctkit.contracts import Params, Split, Task
from ctkit.testing.judging import Judge
from ctkit.testing.plugins import build


def check_task(plugin: type[Task[Any]], params: Params | None = None) -> None:
    """Check a task on the data its parameters name; some images of each part are looked at.

    Raises ``NonConformance`` for the first promise that is broken.
    """
    task, judge = build("task", plugin, params)
    _check_classes(judge, task)
    splits = task.splits()
    _check_parts(judge, task, splits)
    _check_same(judge, splits, plugin(task.params).splits())
    for part, split in splits.items():
        for number in sorted({0, len(split.names) // 2, len(split.names) - 1}):
            _check_image(judge, task, part, number)
    _check_files(judge, task)


def _check_classes(judge: Judge, task: Task[Any]) -> None:
    classes = task.classes
    judge.must(
        len(classes) > 1 and all(classes) and len(set(classes)) == len(classes),
        "there must be two classes or more, each with a name of its own",
        f"they are {classes}",
        "name them in the order of their numbers",
    )
    judge.must(
        task.positive_class is None or task.positive_class in classes,
        f"the positive class must be one of {', '.join(classes)}",
        f"it is {task.positive_class!r}",
        "set positive to the finding that the task looks for",
    )
    if task.mean_std is not None:
        mean, std = task.mean_std
        judge.must(
            0 <= mean <= 1 and 0 < std <= 1,
            "mean_std must be on the scale 0..1",
            f"it is {task.mean_std}",
            "divide by 255",
        )


def _check_parts(judge: Judge, task: Task[Any], splits: Mapping[str, Split]) -> None:
    judge.must(
        {"train", "test"} <= splits.keys() <= {"train", "val", "test"},
        "splits must be train and test, and val where there is one",
        f"they are {', '.join(splits)}",
        "name them so",
    )
    for part, split in splits.items():
        _check_part(judge, part, split, len(task.classes))
    names = Counter(name for split in splits.values() for name in split.names)
    shared = [name for name, count in names.items() if count > 1]
    judge.must(
        not shared,
        "an image must be in one part only, under a name of its own",
        f"{len(shared)} names come twice, such as {shared[:1]}",
        "drop doubles, and add the part or the folder to the name",
    )
    missing = set(range(len(task.classes))) - set(splits["train"].labels.tolist())
    judge.must(
        not missing,
        "each class must have training images",
        f"{', '.join(task.classes[number] for number in sorted(missing))} has none",
        "leave the class out, or split within classes",
    )


def _check_part(judge: Judge, part: str, split: Split, classes: int) -> None:
    n, labels = len(split.names), split.labels
    judge.must(n > 0, f"part {part} must have images", "it has none", "leave the part out")
    judge.must(
        labels.dtype == np.int64 and labels.shape == (n,),
        f"labels of {part} must be ({n},) int64, as there are {n} names",
        f"they are {labels.shape} {labels.dtype}",
        "give a class number for each image",
    )
    judge.must(
        ((labels >= 0) & (labels < classes)).all(),
        f"labels of {part} must be in 0..{classes - 1}",
        f"they go from {labels.min()} to {labels.max()}",
        "number the classes as `classes` does",
    )
    judge.must(
        split.patients is None or len(split.patients) == n,
        f"patients of {part} must be {n}, or None where they are not known",
        f"there are {len(split.patients or ())}",
        "name the patient of each image",
    )


def _check_same(judge: Judge, splits: Mapping[str, Split], again: Mapping[str, Split]) -> None:
    same = splits.keys() == again.keys() and all(
        split.names == again[part].names
        and np.array_equal(split.labels, again[part].labels)
        and split.patients == again[part].patients
        for part, split in splits.items()
    )
    judge.must(same, "splits must be the same each time", "they differ", "sort folders, and draw from a fixed seed")


def _check_image(judge: Judge, task: Task[Any], part: str, number: int) -> None:
    image = task.image(part, number)
    judge.must(
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0,
        "an image must be uint8",
        f"it is {getattr(image, 'dtype', type(image).__name__)}",
        "scale to 0..255 and convert",
    )
    judge.must(
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3),
        "an image must be (height, width) or (height, width, 3)",
        f"it is {image.shape}",
        "drop transparency, and turn channels last",
    )
    judge.must(
        np.array_equal(image, task.image(part, number)),
        "an image must be the same each time",
        "it differs",
        "augment not",
    )


def _check_files(judge: Judge, task: Task[Any]) -> None:
    files = list(task.files())
    root = task.root
    judge.must(
        (root is None) == (not files),
        "files must give every file that the result depends on, and none for synthetic data",
        f"root is {'None' if root is None else 'given'} and there are {len(files)} files",
        "list the images and the tables of labels: they tell when results are out of date",
    )
    for file in files:
        judge.must(
            root is not None and (root / file.path).is_file() and (root / file.path).stat().st_size == file.size,
            "files must be relative to the root, with their sizes",
            repr(file),
            "take them from the folder",
        )
