"""Work on many items in processes that may die: on this machine, or on a Dask cluster.

Where pixels are decoded no process is safe: native decoders crash, hang, and take all memory. An item whose process
died is tried again at the end, when nothing else runs, in a process to itself; where that one dies too, it is lost.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, Literal, TypeVar

from ctkit import stopping
from ctkit.compute import worker
from ctkit.compute.child import Cause, Died, Outcome, reason
from ctkit.compute.clusters import Cluster, ClusterWorkers
from ctkit.compute.worker import Raised, Returned
from ctkit.compute.workers import LocalWorkers, Worker
from ctkit.errors import StorageError

Item = TypeVar("Item")
Result = TypeVar("Result")
_log = logging.getLogger("ctkit.compute")


def usable_cores() -> int:
    """Physical cores that this process may use: affinity and container quotas count, hyper-threads do not."""
    import loky
    import psutil  # type: ignore[import-untyped]  # ships no types

    usable = int(loky.cpu_count())  # its own count of physical cores prints a traceback where there is none
    return usable if usable < (os.cpu_count() or 1) else psutil.cpu_count(logical=False) or usable


@dataclass(frozen=True)
class Backend:
    """Where work happens."""

    kind: Literal["processes", "dask"]
    workers: int  #: processes on this machine; an existing Dask cluster has as many workers as it has
    scheduler: str | None = None  #: address of an existing Dask scheduler; None starts a cluster on this machine
    time_limit: float = 300.0  #: seconds one item may take


@dataclass(frozen=True)
class Done(Generic[Item, Result]):
    """An item and what came of it."""

    item: Item
    result: Result


@dataclass(frozen=True)
class Lost(Generic[Item]):
    """An item whose work failed. The reason holds no patient name, id, date or path."""

    item: Item
    reason: str
    cause: Cause


class Workers:
    """The workers of a run. They start when first needed and serve every stage; leaving the context ends them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._all: list[LocalWorkers | ClusterWorkers] = []
        self._idle: list[LocalWorkers | ClusterWorkers] = []  # those that no call of ``run`` holds
        self._cluster: Cluster | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for workers in self._all:
            workers.end()
        if self._cluster is not None:
            self._cluster.end()

    def run(
        self, work: Callable[[Item], Result], items: Iterable[Item], *, name: Callable[[Item], str]
    ) -> Iterator[Done[Item, Result] | Lost[Item]]:
        """Do ``work`` on each item and yield outcomes as they come: one for each item, in any order.

        ``items`` is taken lazily, two for each worker ahead. ``work`` goes along with each item, so it must be small:
        a function, or a ``partial`` of a function and a plugin; a process unpickles it once. ``name`` is for the debug
        log. A run may be started while another waits for its next ``next``.

        Raises ``StorageError`` where a worker cannot write, ``CtkitError`` where workers cannot work at all, and
        ``KeyboardInterrupt`` before the next second attempt where the run is to stop.
        """
        if not self._idle:
            self._idle.append(self._started())
            self._all.append(self._idle[-1])
        workers, do, limit = self._idle.pop(), worker.pickled(work), self.backend.time_limit
        rest, away, again = iter(items), dict[Future[Outcome], Item](), list[Item]()
        back: SimpleQueue[Future[Outcome]] = SimpleQueue()

        def send() -> None:
            for item in itertools.islice(rest, max(0, workers.capacity - len(away))):
                future = workers.submit(do, worker.pickled((item,)), limit)
                away[future] = item
                future.add_done_callback(back.put)

        try:
            send()
            while away:
                future = back.get()
                item, outcome = away.pop(future), workers.outcome(future)
                send()
                if _may_end_well(outcome):
                    _log.debug("a worker died during %s, which will be tried again alone", name(item))
                    again.append(item)
                else:
                    yield _final(item, outcome, name)
            for item in again:
                stopping.check()
                yield attempt_alone(work, item, limit, name)
        except BaseException:  # GeneratorExit too: nobody wants what the workers still hold
            workers.end()
            self._all.remove(workers)
            raise
        self._idle.append(workers)

    def _started(self) -> LocalWorkers | ClusterWorkers:
        if self.backend.kind == "processes":
            return LocalWorkers(self.backend.workers)
        self._cluster = self._cluster or Cluster(self.backend.workers, self.backend.scheduler)
        return self._cluster.workers()


def attempt_alone(
    work: Callable[[Item], Result], item: Item, limit: float, name: Callable[[Item], str] = str
) -> Done[Item, Result] | Lost[Item]:
    """Do work on an item in a process of its own, within a time limit."""
    alone = Worker()
    try:
        return _final(item, alone.attempt(worker.pickled(work), worker.pickled((item,)), limit), name)
    finally:
        alone.end()


def _may_end_well(outcome: Outcome) -> bool:
    """Whether another attempt, alone, may end better."""
    return isinstance(outcome, Died) or (isinstance(outcome, Raised) and isinstance(outcome.error, MemoryError))


def _final(item: Item, outcome: Outcome, name: Callable[[Item], str]) -> Done[Item, Any] | Lost[Item]:
    if isinstance(outcome, Returned):
        return Done(item, outcome.result)
    if isinstance(outcome, Died):
        _log.debug("%s could not be processed: %s", name(item), outcome.reason)
        return Lost(item, outcome.reason, outcome.cause)
    if isinstance(outcome.error, MemoryError):
        return Lost(item, "ran out of memory", Cause.MEMORY)
    if isinstance(outcome.error, StorageError):
        raise StorageError(str(outcome.error))
    _log.debug("%s failed:\n%s", name(item), outcome.trace)
    return Lost(item, reason(outcome), Cause.RAISED)
