"""What every tracker is told, and in which words; how each library is told it, lies in a module of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from ctkit.errors import RequestError, nearest
from ctkit.files import read_csv
from ctkit.hookspecs import RunInfo

SCORES = "results.csv"
FILES = ("report.html", SCORES, "comparisons.csv")  #: that may leave the machine: they name no patient or path

_State = tuple[int, int]  # of a file: inode, and time of the last change in ns


class Tracker(ABC):
    """Follows one run: a library that keeps its numbers and files."""

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


@dataclass(frozen=True)
class Followed:
    """A tracker of a run, and the files that an earlier start had left in its folder."""

    tracker: Tracker
    earlier: Mapping[str, _State]


#: Imports a tracker's class, for its library may be missing.
_TRACKERS: dict[str, Callable[[], type[Tracker]]] = {
    "mlflow": partial(resolve_name, "ctkit_trackers.mlflow:MLflow"),
    "wandb": partial(resolve_name, "ctkit_trackers.wandb:WandB"),
}


def start(name: str, run: RunInfo) -> Followed:
    """Start a tracker. Raises ``RequestError`` where there is none of that name, or its library is missing."""
    if name not in _TRACKERS:
        raise RequestError(f"there is no tracker {name!r}; {nearest(name, _TRACKERS)}")
    try:
        found = _TRACKERS[name]()
    except ModuleNotFoundError as error:
        raise RequestError(f"the tracker {name} needs its library: pip install 'ctkit[{name}]'") from error
    return Followed(found(run, dict(flat(run.config))), _states(run.folder))


def end(followed: Followed, run: RunInfo, *, finished: bool) -> None:
    """Hand over the scores and files that this start of the run has written, and close the record."""
    tracker = followed.tracker
    written = [file for file, state in _states(run.folder).items() if state != followed.earlier.get(file)]
    if SCORES in written:
        for item, name, value in _scores(run.folder / SCORES):
            tracker.metric(item, name, value, 0)
    for file in written:
        tracker.file(run.folder / file)
    tracker.end(finished=finished)


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


def _states(folder: Path) -> dict[str, _State]:
    """Inode and time of each file that is there. Files are replaced as a whole, so a new one has another state."""
    found = {file: (folder / file).stat() for file in FILES if (folder / file).is_file()}
    return {file: (facts.st_ino, facts.st_mtime_ns) for file, facts in found.items()}


def _scores(path: Path) -> Iterator[tuple[str, str, float]]:
    """Pooled scores: what each is a score of, the metric and the value."""
    for row in read_csv(path):
        if row["seed"] == "all" and row["value"]:
            parts = (row["arm"], row["pretrain"], row["task"], row["protocol"], f"labels-{row['labels']}")
            yield "/".join(("score", *parts)), row["metric"], float(row["value"])
