"""Drawing from labelled images: validation parts, label subsets, and the units that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctkit.contracts import Bools, Ints, Task
from ctkit_tasks.fingerprints import STRICT, connected, fingerprints

LARGE = 0.05  #: share of a set's images that one unit may hold without a warning


@dataclass(frozen=True)
class Units:
    """What is drawn or resampled as one: a patient's images where patients are known, single images where not."""

    of_image: Ints  #: (n,) number of each image's unit
    label: Ints  #: (u,) most frequent class in each unit, the one of lower number where two are equally frequent
    bound: Bools  #: (u,) whether near-duplicates bind several patients, or images, into the unit

    @property
    def single_images(self) -> bool:
        """Whether every unit is one image."""
        return len(self.label) == len(self.of_image)


def units_of(names: Sequence[str], labels: Ints, patients: Sequence[str] | None, alike: Ints | None = None) -> Units:
    """Group ``n`` images into units. Units are numbered in the order of their names, not in that of the images.

    ``alike`` (n,) numbers groups of near-duplicates: what shares a group is one unit.
    """
    _, own = np.unique(np.asarray(names if patients is None else patients, dtype=object), return_inverse=True)
    of_image, parts = (own, np.ones(own.max(initial=-1) + 1, int)) if alike is None else _bound(own, alike)
    counts = np.zeros((len(parts), labels.max(initial=0) + 1), np.int64)
    np.add.at(counts, (of_image, labels), 1)
    return Units(of_image, counts.argmax(axis=1), parts > 1)


def training_units(task: Task[Any]) -> Units:
    """Units of a task's training images, near-duplicates bound together."""
    train = task.splits()["train"]
    return units_of(train.names, train.labels, train.patients, fingerprints(task, "train").groups)


def chained(units: Units, name: str) -> Iterator[str]:
    """Warn of near-duplicates that bind many images of a set together: as links chain, they need not be alike."""
    share = np.bincount(units.of_image) / max(1, len(units.of_image))
    if large := share[units.bound & (share > LARGE)].tolist():
        yield (
            f"{name}: near-duplicates ({STRICT} or fewer of 256 hash bits differ) bind up to {max(large):.0%} of the "
            f"images into one unit, which goes to one side as a whole ({len(large)} units of more than {LARGE:.0%})"
        )


def _bound(own: Ints, alike: Ints) -> tuple[Ints, Ints]:
    """Unit of each image (n,) where units ``own`` (n,) that share a group ``alike`` (n,) are one; parts of each."""
    units, groups = own.max(initial=-1) + 1, alike.max(initial=-1) + 1
    joined = connected(own, units + alike, units + groups)
    _, first, number, parts = np.unique(joined[:units], return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # units are numbered by the first of their parts
    return np.argsort(order)[number][own], parts[order]


def hold_out(units: Units, share: float, seed: int) -> Bools:
    """Draw about ``share`` of the units of each class; returns which of the ``n`` images are drawn.

    At least one unit of a class is drawn, and at least one is left, where the class has two or more.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros(len(units.label), bool)
    for label in np.unique(units.label):
        members = rng.permutation(np.flatnonzero(units.label == label))
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        drawn[members[:count]] = True
    return drawn[units.of_image]


def label_subset(names: Sequence[str], labels: Ints, share: float, seed: int) -> Ints:
    """Choose ``share`` of ``n`` labelled images, as many of each class as there are; ascending positions (m,).

    Nested: a smaller share with the same seed is a subset of a larger one. At least one image of each class is chosen.
    """
    order = np.random.default_rng(seed).permutation(np.argsort(np.asarray(names, dtype=object)))
    turn = np.empty(len(labels), np.int64)  # whether an image comes first, second ... of its class
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    count = max(round(share * len(labels)), len(np.unique(labels)))
    return np.sort(np.lexsort((labels, turn))[:count])
