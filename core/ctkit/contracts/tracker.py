"""Trackers: they keep the numbers and files of runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from ctkit.contracts.params import P, Plugin
from ctkit.hookspecs import RunInfo


class Tracker(Plugin[P], ABC):
    """Follows one run, in its main process. The one kind that has a state: from ``start`` to ``end``.

    If a call raises, ctkit warns once and the run continues. After a ``start`` that raised, nothing else is called.
    """

    @abstractmethod
    def start(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        """Begin a record. ``parameters`` are the pipeline's, such as ``reduce.hash6.scope``, redacted as ``run`` is."""

    @abstractmethod
    def metric(self, item: str, name: str, value: float, step: int) -> None:
        """Record a number of an item, such as ``pretrain/hash6/simclr/seed-42``, at an optimiser step of that item.

        Losses and the like come during the run; the ``seconds`` of each stage, and the pooled scores, at step 0.
        """

    def file(self, path: Path) -> None:  # a tracker of numbers alone has no use for it
        """Keep a copy of a file of the run that may leave the machine: report, scores or comparisons."""

    @abstractmethod
    def end(self, *, finished: bool) -> None:
        """Close the record: the run ``finished``, or it failed or was interrupted."""
