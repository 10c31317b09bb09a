"""What every tracker is told, and in which words; how each library is told it, lies in a module of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ctkit import Run
from ctkit.errors import RequestError, nearest
from ctkit.hookspecs import RunInfo
from ctkit_trackers.tracker import Tracker

_State = tuple[int, int]  # of a file: inode, and time of the last change in ns


@dataclass(frozen=True)
class Followed:
    """A tracker of a run, and the files that an earlier start had left in its folder."""

    name: str
    tracker: Tracker
    earlier: Mapping[Path, _State]

    def metric(self, item: str, name: str, value: float, step: int) -> str:
        """Hand a number on; return why the tracker did not take it, "" where it did."""
        item = "/".join(filter(None, item.split("/")))  # a baseline has no pre-training; no library takes an empty part
        words = " ".join([name, "of", *item.split("/")])  # with slashes it would be taken for a path and left out
        return self._handed(words, self.tracker.metric, item, name, value, step)

    def end(self, run: RunInfo, *, finished: bool) -> str:
        """Hand over scores and files that this start has written, and close the record whatever fails.

        Returns the first thing that the tracker did not take, "" where it took all.
        """
        written = [file for file, state in _states(run.folder).items() if state != self.earlier.get(file)]
        refused = []
        try:
            if Run(run.folder).folder.results in written:
                refused += [self.metric(item, name, value, 0) for item, name, value in _scores(run.folder)]
            refused += [self._handed(file.name, self.tracker.file, file) for file in written]
        finally:
            refused.append(self._handed("its end", partial(self.tracker.end, finished=finished)))
        return next(filter(None, refused), "")

    def _handed(self, key: str, hand: Callable[..., None], *what: Any) -> str:
        try:
            hand(*what)
        except Exception as error:  # a library of others
            return f"{self.name} rejected {key}: {error}"
        return ""


def _mlflow() -> type[Tracker]:
    from ctkit_trackers.mlflow import MLflow

    return MLflow


def _wandb() -> type[Tracker]:
    from ctkit_trackers.wandb import WandB

    return WandB


#: Imports a tracker's class, for its library may be missing.
_TRACKERS: dict[str, Callable[[], type[Tracker]]] = {"mlflow": _mlflow, "wandb": _wandb}


def start(name: str, run: RunInfo) -> Followed:
    """Start a tracker. Raises ``RequestError`` where there is none of that name, or its library is missing."""
    return Followed(name, find(name)(run, dict(flat(run.config))), _states(run.folder))


def faults(names: Iterable[str]) -> Iterator[str]:
    """Say which trackers there are not, or are without their library."""
    for name in names:
        try:
            find(name)
        except RequestError as error:
            yield str(error)


def find(name: str) -> type[Tracker]:
    """Import a tracker. Raises ``RequestError`` where there is none of that name, or its library is missing."""
    if name not in _TRACKERS:
        raise RequestError(f"there is no tracker {name!r}; {nearest(name, _TRACKERS)}")
    try:
        return _TRACKERS[name]()
    except ModuleNotFoundError as error:
        raise RequestError(f"the tracker {name} needs its library: pip install 'ctkit-ssl[{name}]'") from error


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str | float | bool]]:
    """The leaves of nested tables with their names, such as ``reduce.hash6.scope``: tables of a list go by their id."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from flat(item, f"{name}.{item.get('id', number)}")
    else:
        yield name, value if isinstance(value, str | bool | int | float) else str(value)


def _states(folder: Path) -> dict[Path, _State]:
    """Inode and time of each file that is there and may leave the machine, as it names no patient or path.

    Files are replaced as a whole, so a new one has another state.
    """
    files = Run(folder).folder
    found = {file: file.stat() for file in (files.report, files.results, files.comparisons) if file.is_file()}
    return {file: (facts.st_ino, facts.st_mtime_ns) for file, facts in found.items()}


def _scores(folder: Path) -> Iterator[tuple[str, str, float]]:
    """Pooled scores: what each is a score of, the metric and the value."""
    for row in Run(folder).scores:
        if row.pooled and not math.isnan(row.value):
            parts = (row.arm, row.pretrain, row.task, row.protocol, f"labels-{row.labels:g}")
            yield "/".join(("score", *parts)), row.metric, row.value
