"""Work on many items in processes that may die: on this machine, or on a Dask cluster, by the same futures.

Where pixels are decoded no process is safe: native decoders crash, hang, and take all memory. So a worker marks in a
journal which item it begins. When it dies, the item it was at is a suspect, and what waited behind it goes to another
worker. At the end, when nothing else runs, each suspect gets a process to itself; what ends that one too is lost.
"""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar

from ctkit import stopping
from ctkit.compute import isolation, worker
from ctkit.compute.lanes import AHEAD, Cluster, Lane, ProcessLane
from ctkit.errors import CtkitError, StorageError

Item = TypeVar("Item")
Result = TypeVar("Result")
_log = logging.getLogger("ctkit.compute")

#: How often a lane may break before its process begins any item, until the run is given up.
_STILLBORN = 4


def usable_cores() -> int:
    """Physical cores that this process may use: affinity and container quotas count, hyper-threads do not."""
    import loky

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Could not find the number of physical cores")
        return int(loky.cpu_count(only_physical_cores=True))


@dataclass(frozen=True)
class Backend:
    """Where work happens."""

    kind: Literal["processes", "dask"]
    workers: int  #: processes on this machine; an existing Dask cluster has as many workers as it has
    scheduler: str | None = None  #: address of an existing Dask scheduler; None starts a cluster on this machine
    time_limit: float = 300.0  #: seconds one item may take

    @classmethod
    def of(
        cls,
        kind: Literal["processes", "dask"],
        workers: int | Literal["auto"],
        scheduler: str | None,
        time_limit: float,
    ) -> Backend:
        """Return the backend that a pipeline file asks for; "auto" is a worker for each usable core."""
        return cls(kind, usable_cores() if workers == "auto" else workers, scheduler, time_limit)


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item and what came of it."""

    item: Item
    result: Result


@dataclass(frozen=True)
class Lost(Generic[Item]):
    """An item that nothing came of. The reason holds no patient name, id, date or path."""

    item: Item
    reason: str
    deadly: bool  #: it ended its process, outlasted its time or took all memory; otherwise the work raised


class Workers:
    """The workers of a run. They start when first needed and serve every stage; leaving the context ends them.

    ``journal`` is a folder for marks, which an existing Dask cluster must see under the same path.
    """

    def __init__(self, backend: Backend, journal: Path) -> None:
        self.backend = backend
        self._journal = journal
        self._lanes: list[Lane] = []  # all there are
        self._idle: list[Lane] = []  # those that no run holds
        self._cluster: Cluster | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> Workers:
        try:
            self._journal.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write {self._journal}: {error.strerror}") from error
        self._forget_marks()  # of a run that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(list(self._lanes))
        if self._cluster is not None:
            self._cluster.end()
        self._forget_marks()
        with suppress(OSError):  # somebody else's files are in it
            self._journal.rmdir()

    def run(
        self, work: Callable[[Item], Result], items: Iterable[Item], *, name: Callable[[Item], str]
    ) -> Iterator[Done[Item, Result] | Lost[Item]]:
        """Do ``work`` on each item and yield outcomes as they come: one for each item, in any order.

        ``items`` is taken lazily, two for each worker ahead. ``work`` goes along with each item, so it must be small:
        a function, or a ``partial`` of a function and a plugin; a process unpickles it once. ``name`` is for the
        journal and the debug log. A run may be started while another waits for its next ``next``.

        Raises ``StorageError`` where a worker cannot write, ``CtkitError`` where workers cannot work at all, and
        ``KeyboardInterrupt`` before the next suspect where the run is to stop.
        """
        tasks = (Sent(item, name(item), worker.pickled(item), self._mark()) for item in items)
        lanes = self._take_lanes()
        try:
            yield from _Run(lanes, self._replaced, worker.pickled(work), tasks, self.backend.time_limit).outcomes()
        except BaseException:  # GeneratorExit too: nobody wants what the lanes still hold
            self._end(lanes)
            raise
        self._idle += lanes

    def _mark(self) -> Path:
        return self._journal / f"{os.getpid()}-{next(self._numbers)}.mark"

    def _forget_marks(self) -> None:
        for mark in self._journal.glob("*.mark"):
            mark.unlink(missing_ok=True)

    def _take_lanes(self) -> list[Lane]:
        wanted = self.backend.workers if self.backend.kind == "processes" else 1
        return [self._idle.pop() if self._idle else self._new_lane() for _ in range(wanted)]

    def _new_lane(self) -> Lane:
        lane = ProcessLane() if self.backend.kind == "processes" else self._connected().lane()
        self._lanes.append(lane)
        return lane

    def _replaced(self, lane: Lane) -> Lane:
        self._end([lane])
        return self._new_lane()

    def _connected(self) -> Cluster:
        self._cluster = self._cluster or Cluster(self.backend.workers, self.backend.scheduler)
        return self._cluster

    def _end(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            lane.end()
            if lane in self._lanes:
                self._lanes.remove(lane)


# --- one run ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent(Generic[Item]):
    """An item on its way."""

    item: Item
    name: str
    pickled: bytes
    mark: Path  #: exists while a worker is at the item, and after one died at it


class _Run(Generic[Item, Result]):
    """What waits, what is with workers, and what must be tried alone."""

    def __init__(
        self,
        lanes: list[Lane],
        replaced: Callable[[Lane], Lane],
        work: bytes,
        tasks: Iterator[Sent[Item]],
        time_limit: float,
    ) -> None:
        self._lanes = lanes  # the caller's list: broken lanes are replaced in it
        self._replaced = replaced
        self._work = work
        self._tasks = tasks
        self._time_limit = time_limit
        self._again: deque[Sent[Item]] = deque()
        self._away: dict[Future[worker.Outcome], tuple[Lane, Sent[Item]]] = {}
        self._back: SimpleQueue[Future[worker.Outcome]] = SimpleQueue()
        self._suspects: list[Sent[Item]] = []
        self._unbegun = 0

    def outcomes(self) -> Iterator[Done[Item, Result] | Lost[Item]]:
        self._send()
        while self._away:
            settled = self._settle(*self._next())
            self._send()
            if settled is not None:
                yield settled
        for task in self._suspects:
            stopping.check()
            yield _final(task, isolation.attempt(self._work, task.pickled, self._time_limit))

    def _send(self) -> None:
        """Give every lane as much as it takes, the emptiest first."""
        while (lane := min(self._lanes, key=lambda lane: lane.load / lane.capacity)).load < lane.capacity:
            task = self._again.popleft() if self._again else next(self._tasks, None)
            if task is None:
                return
            try:
                future = lane.submit(self._work, task.pickled, task.name, task.mark, self._time_limit)
            except BrokenExecutor:
                self._again.append(task)
                self._replace(lane)
            else:
                self._away[future] = lane, task
                future.add_done_callback(self._back.put)

    def _next(self) -> tuple[Sent[Item], worker.Outcome | None]:
        """Wait for the next answer; None stands for a task that no worker has begun."""
        future = self._back.get()
        lane, task = self._away.pop(future)
        try:
            return task, lane.answer(future)
        except BrokenExecutor:
            self._replace(lane)
            return task, worker.Suspect() if task.mark.exists() else None

    def _replace(self, lane: Lane) -> None:
        if lane in self._lanes:
            self._lanes[self._lanes.index(lane)] = self._replaced(lane)

    def _settle(self, task: Sent[Item], outcome: worker.Outcome | None) -> Done[Item, Result] | Lost[Item] | None:
        if outcome is None:
            self._again.append(task)
            self._unbegun += 1
            if self._unbegun > _STILLBORN * AHEAD * len(self._lanes):
                raise CtkitError("worker processes die before they begin any work; is there memory left for them?")
            return None
        self._unbegun = 0
        if isinstance(outcome, worker.Suspect):
            _log.debug("a worker ended while it was at %s: it will be tried again alone", task.name)
            self._suspects.append(task)
            return None
        return _final(task, outcome)


def _final(task: Sent[Item], outcome: worker.Outcome) -> Done[Item, Any] | Lost[Item]:
    match outcome:
        case worker.Returned(result):
            return Done(task.item, result)
        case worker.Raised(reason, trace, storage):
            if storage:
                raise StorageError(reason)
            _log.debug("%s failed:\n%s", task.name, trace)
            return Lost(task.item, reason, deadly=False)
        case worker.Suspect(reason):
            _log.debug("%s is lost: %s", task.name, reason)
            return Lost(task.item, reason, deadly=True)
