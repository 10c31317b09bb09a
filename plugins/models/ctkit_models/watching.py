"""How well a trunk tells the classes of a task apart while it is trained: k-NN accuracy on training images of the task.

Each image is told by its neighbours among those of other patients. Nothing is learned from the labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctkit.contracts import Ints, Pretraining, Rows, Task, image_of
from ctkit.errors import CtkitError, DataError
from ctkit_models.plan import Plan
from ctkit_models.probing import Look, affordable, features_of
from ctkit_models.sampling import occurrence
from ctkit_torch.neighbours import accuracy_among_others
from ctkit_torch.preparation import batches, normalised, together
from ctkit_torch.trunks import Trunk

IMAGES = 512  #: of a task at most
_BATCH = 64  #: images that are read at a time

log = logging.getLogger("ctkit.models")


class Watch(Look):
    """Measures the features of the same images of a task again and again, prepared as they are for evaluation."""

    def __init__(self, name: str, task: Task[Any], rows: Rows, plan: Plan, size: int, workers: int) -> None:
        """Read the images. Raises ``DataError`` where neighbours could tell nothing."""
        split = task.splits()["train"]
        chosen = chosen_images(split.labels, affordable(plan, IMAGES))
        self.name = f"knn-{name}"
        self._labels = split.labels[chosen]
        patients = range(len(split.labels)) if split.patients is None else np.asarray(split.patients, dtype=object)
        self._patients = np.unique(patients, return_inverse=True)[1][chosen]
        for kind, numbers in (("class", self._labels), ("patient", self._patients)):
            if len(np.unique(numbers)) < 2:
                raise DataError(f"there is only one {kind} among the training images")
        self._mean, self._std = task.mean_std or (rows.mean, rows.std or 1.0)
        read = partial(image_of, task, "train")
        self._images = together(batches(read, chosen, size=size, batch=_BATCH, workers=workers))
        super().__init__(plan, len(chosen))

    def measure(self, trunk: Trunk, device: torch.device) -> float:
        """Share of the images whose class their neighbours tell by features of ``trunk``, which is on ``device``."""
        features = features_of(trunk, self._seen(trunk.channels, device)).numpy()
        if not np.isfinite(features).all():
            return float("nan")
        return accuracy_among_others(features, self._labels, self._patients)

    def _seen(self, channels: int, device: torch.device) -> Iterator[Tensor]:
        for start in range(0, len(self._images), self._at_a_time):
            part = self._images[start : start + self._at_a_time].to(device)
            images = normalised(part, self._mean, self._std)
            yield images if channels == 3 else images.mean(dim=1, keepdim=True)


def watches(job: Pretraining, plan: Plan, size: int) -> list[Watch]:
    """A watch on each of the job's tasks that can be watched; a warning says why another cannot."""
    found = []
    for name, task in job.watched.items():
        try:
            found.append(Watch(name, task, job.rows, plan, size, job.workers))
        except Exception as error:  # a task may raise anything
            reason = error if isinstance(error, CtkitError) else type(error).__name__
            log.warning("task %s is not monitored: %s", name, reason)
            log.debug("task %s is not monitored", name, exc_info=error)
    return found


def chosen_images(labels: Ints, most: int) -> Ints:
    """Positions of at most so many of ``n`` images with ``labels`` (n,), as many of each class as there are."""
    order = np.random.default_rng(IMAGES).permutation(len(labels))
    return np.sort(order[np.argsort(occurrence(labels[order]), kind="stable")[:most]])
