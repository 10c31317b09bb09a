"""Tasks: labelled images in parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts.dataset import SourceFile
from ctkit.contracts.params import Ints, P, Plugin


@dataclass(frozen=True)
class Split:
    """One part of a task: ``n`` images by name, their labels, and their patients where the source knows them."""

    names: tuple[str, ...]  #: (n,) unique within the task
    labels: Ints  #: (n,) number of the class
    patients: tuple[str, ...] | None = None  #: (n,)


class Task(Plugin[P], ABC):
    """A labelled image set. Protocols and metrics are not its business."""

    positive: ClassVar[str | None] = None  #: the class that sensitivity and F1 speak of, in a task of two classes
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

    @abstractmethod
    def splits(self) -> Mapping[str, Split]:
        """Parts ``train`` and ``test``, and ``val`` where there is one."""

    @abstractmethod
    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One image: (height, width) or (height, width, 3)."""
