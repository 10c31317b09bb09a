"""Tasks: labelled images in parts, some with a mask for each image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts.dataset import SourceFile
from ctkit.contracts.params import Ints, P, Plugin


class Stack(NamedTuple):
    """The slices of one volume, from foot to head, in a task with masks."""

    name: str  #: unique within the task
    slices: int
    spacing: tuple[float, float, float]  #: mm between slices, and between rows and columns of their masks


@dataclass(frozen=True)
class Split:
    """One part of a task: ``n`` images by name, their labels, and their patients where the source knows them."""

    names: tuple[str, ...]  #: (n,) unique within the task
    labels: Ints  #: (n,) number of the class
    patients: tuple[str, ...] | None = None  #: (n,)
    stacks: tuple[Stack, ...] = ()  #: where there are masks: the volumes that the images are of, one after the other


class Task(Plugin[P], ABC):
    """A labelled image set. Protocols and metrics are not its business."""

    positive: ClassVar[str | None] = None  #: the class that sensitivity and F1 speak of, in a task of two classes
    masks: ClassVar[bool] = False  #: whether each image has a mask, for protocols that segment
    mean_std: ClassVar[tuple[float, float] | None] = None  #: on the scale 0..1; None: as the backbone was trained

    def files(self) -> Iterator[SourceFile]:
        """Every file that the result depends on; none for synthetic data."""
        return iter(())

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""

    @property
    def positive_class(self) -> str | None:
        """Name of the positive class; tasks whose classes come from the data override this."""
        return self.positive

    @property
    def notes(self) -> tuple[str, ...]:
        """What speaks against believing its scores, such as images that ``splits`` left out."""
        return ()

    @abstractmethod
    def splits(self) -> Mapping[str, Split]:
        """Parts ``train`` and ``test``, and ``val`` where there is one."""

    @abstractmethod
    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One image: (height, width) or (height, width, 3)."""

    def mask(self, split: str, number: int) -> NDArray[np.uint8]:
        """Class of each pixel of an image, 0 for the background: (height, width), of any size but of all it shows.

        All masks of a stack have one size. Asked where ``masks`` is set.
        """
        raise TypeError(f"{type(self).__name__} declares masks but has no mask")
