"""What a tracker is: a library that keeps the numbers and files of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from ctkit.hookspecs import RunInfo


class Tracker(ABC):
    """Follows one run."""

    @abstractmethod
    def __init__(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        """Begin a record of the run with its parameters."""

    @abstractmethod
    def metric(self, item: str, name: str, value: float, step: int) -> None:
        """Record a number of an item, such as ``pretrain/hash6/simclr/seed-42``, at a step of that item."""

    @abstractmethod
    def file(self, path: Path) -> None:
        """Keep a file of the run."""

    @abstractmethod
    def end(self, *, finished: bool) -> None:
        """Close the record: the run ``finished``, or it failed or was interrupted."""
