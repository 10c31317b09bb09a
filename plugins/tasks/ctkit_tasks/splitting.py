"""Drawing from labelled images: validation parts, label subsets, and the units that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctkit.contracts import Bools, Ints


@dataclass(frozen=True)
class Units:
    """What is drawn or resampled as one: a patient's images where patients are known, single images where not."""

    of_image: Ints  #: (n,) number of each image's unit
    label: Ints  #: (u,) most frequent class in each unit, the one of lower number where two are equally frequent

    @property
    def single_images(self) -> bool:
        """Whether every unit is one image."""
        return len(self.label) == len(self.of_image)


def units_of(names: Sequence[str], labels: Ints, patients: Sequence[str] | None) -> Units:
    """Group ``n`` images into units. Units are numbered in the order of their names, not in that of the images."""
    _, of_image = np.unique(np.asarray(names if patients is None else patients, dtype=object), return_inverse=True)
    counts = np.zeros((of_image.max(initial=-1) + 1, labels.max(initial=0) + 1), np.int64)
    np.add.at(counts, (of_image, labels), 1)
    return Units(of_image, counts.argmax(axis=1))


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
