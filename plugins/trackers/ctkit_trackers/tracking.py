"""What every tracker is told, and in which words; how each library is told it, lies in a module of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from ctkit.errors import RequestError, nearest
from ctkit.files import read_csv
from ctkit.hookspecs import RunInfo

FILES = ("report.html", "results.csv", "comparisons.csv")  #: that may leave the machine: they name no patient or path
_TRACKERS = {"mlflow": "ctkit_trackers.mlflow:MLflow", "wandb": "ctkit_trackers.wandb:WandB"}


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


def start(name: str, run: RunInfo) -> Tracker:
    """Start a tracker. Raises ``RequestError`` where there is none of that name, or its library is missing."""
    if name not in _TRACKERS:
        raise RequestError(f"there is no tracker {name!r}; {nearest(name, _TRACKERS)}")
    module, _, attribute = _TRACKERS[name].partition(":")
    try:
        found = cast(type[Tracker], getattr(import_module(module), attribute))
    except ModuleNotFoundError as error:
        raise RequestError(f"the tracker {name} needs its library: pip install 'ctkit[{name}]'") from error
    return found(run, dict(flat(run.config)))


def end(tracker: Tracker, run: RunInfo, *, finished: bool) -> None:
    """Hand over scores and files, and close the record."""
    for item, name, value in _scores(run.folder):
        tracker.metric(item, name, value, 0)
    for path in (run.folder / file for file in FILES):
        if path.is_file():
            tracker.file(path)
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


def _scores(folder: Path) -> Iterator[tuple[str, str, float]]:
    """Pooled scores: what each is a score of, the metric and the value."""
    path = folder / "results.csv"
    for row in read_csv(path) if path.is_file() else ():
        if row["seed"] == "all" and row["value"]:
            parts = (row["arm"], row["pretrain"], row["task"], row["protocol"], f"labels-{row['labels']}")
            yield "/".join(("score", *parts)), row["metric"], float(row["value"])
