"""The checks of tasks: parts that are apart, labels that exist, images of one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ctkit.contracts import Split, Task
from ctkit.contracts.judge import check_image, check_mask
from ctkit.promises import check_classes, check_splits
from ctkit.testing.plugins import Checks, Once

IMAGES = 16  #: of each part that are looked at, from the first to the last


class TaskChecks(Checks[Task[Any]]):
    """Of a task, on the data its parameters name; of each part up to 16 images, the first and the last, are read."""

    kind = "task"

    @Once
    def splits(self) -> Mapping[str, Split]:
        """Its parts."""
        with self.judge.calling("splits"):
            return self.built.splits()

    def check_classes(self) -> None:
        """There must be two classes or more, and a positive one must be among them."""
        check_classes(self.judge, self.built)
        if self.built.mean_std is not None:
            mean, std = self.built.mean_std
            self.judge.must(
                0 <= mean <= 1 and 0 < std <= 1,
                f"mean_std must be on the scale 0..1, but it is {self.built.mean_std}; divide by 255",
            )

    def check_parts(self) -> None:
        """Parts must hold together: names of their own, labels of classes, patients."""
        judge, task, splits = self.judge, self.built, self.splits
        check_splits(judge, splits, task.classes)
        judge.must(
            all(bool(split.stacks) == task.masks for split in splits.values()),
            "parts must have stacks if, and only if, the task has masks, but masks is"
            f" {task.masks} and there are {sum(len(split.stacks) for split in splits.values())} stacks; see"
            " ctkit.contracts.Stack",
        )
        wanted = range(task.masks, len(task.classes))  # masks: but the background
        missing = set(wanted) - set(splits["train"].labels.tolist())
        judge.must(
            not missing,
            f"each class must have training images, but {', '.join(task.classes[number] for number in sorted(missing))}"
            " has none; remove the class, or split within classes",
        )

    def check_parts_again(self) -> None:
        """Parts must be the same each time."""
        splits, again = self.splits, self.plugin(self.params).splits()
        same = splits.keys() == again.keys() and all(
            split.names == again[part].names
            and np.array_equal(split.labels, again[part].labels)
            and split.patients == again[part].patients
            for part, split in splits.items()
        )
        advice = "sort folders, and draw from a fixed seed"
        self.judge.must(same, f"splits must be the same each time, but they differ; {advice}")

    def check_images(self) -> None:
        """Images must be uint8, grey or RGB, the same each time."""
        judge, task = self.judge, self.built
        for part, split in self.splits.items():
            for number in np.unique(np.linspace(0, len(split.names) - 1, IMAGES, dtype=int)).tolist():
                with judge.calling("image"):
                    image = task.image(part, number)
                check_image(judge, image, f"image {number} of {part}")
                judge.must(
                    np.array_equal(image, task.image(part, number)),
                    "an image must be the same each time, but it differs; do not augment",
                )
                if not task.masks:
                    continue
                with judge.calling("mask"):
                    mask = task.mask(part, number)
                check_mask(judge, mask, len(task.classes), f"that of image {number} of {part}")
                judge.must(
                    np.array_equal(mask, task.mask(part, number)),
                    "a mask must be the same each time, but it differs; read it from where the image is",
                )

    def check_files(self) -> None:
        """Files must be those below the root."""
        files, root = list(self.built.files()), self.built.root
        self.judge.must(
            (root is None) == (not files),
            "files must give every file that affects the result, and none for synthetic data, but root is"
            f" {'None' if root is None else 'given'} and there are {len(files)} files;"
            " list the images and the tables of labels: they show when results are out of date",
        )
        for file in files:
            self.judge.must(
                root is not None and (root / file.path).is_file() and (root / file.path).stat().st_size == file.size,
                f"files must be relative to the root, with their sizes, but {file!r}; take them from the folder",
            )
