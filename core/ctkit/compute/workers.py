"""Worker processes on this machine: a thread for each gives it one job at a time."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import LifoQueue

from ctkit.compute.child import START, Cause, Child, Died, Outcome
from ctkit.compute.worker import Raised, Returned
from ctkit.errors import CtkitError

#: Items given to a worker: the one it works on and one on the way, so that it never waits for us.
AHEAD = 2
NAME = "the process that worked on it"
_STARTS = 4  #: of a process that dies before it begins, until the run is given up
_early: list[tuple[Child, Mapping[str, str]]] = []  # that nobody has taken yet, and the environment of each


@contextmanager
def started_early(count: int, imports: str) -> Iterator[None]:
    """Start processes for the workers of this block. They import modules while this process does the same."""
    _early.extend((Child(NAME, imports=imports), dict(os.environ)) for _ in range(count))
    try:
        yield
    finally:
        while _early:
            _early.pop()[0].kill()


def _child() -> Child:
    """A process that was started early, if it is as one that is started now; such logs nothing."""
    while _early:
        child, environment = _early.pop()
        if environment == os.environ and not logging.getLogger("ctkit").isEnabledFor(logging.DEBUG):
            return child
        child.kill()
    return Child(NAME)


class Worker:
    """A child process, replaced when it dies. It starts with its first job."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._ended = False
        self._lock = threading.Lock()

    def attempt(self, work: bytes, arguments: bytes, limit: float) -> Outcome:
        """Do pickled work on pickled arguments within a time limit.

        Raises ``CtkitError`` where processes cannot begin the work.
        """
        for _ in range(_STARTS):
            with self._lock:
                if self._ended:
                    return Died(Cause.TERMINATED, "its worker was ended")
                child = self._child = self._child or _child()
            outcome = child.call(work, arguments, limit)
            if not isinstance(outcome, Returned | Raised):
                child.kill()
                self._child = None
            if outcome is not None:
                return outcome
        raise CtkitError(
            f"worker processes die, or take more than {START:g} s, before they start any work; is there enough free"
            " memory, and can they import ctkit and the plugins quickly?"
        )

    def end(self) -> None:
        """Kill the process, and start no other."""
        with self._lock:
            self._ended = True
            if self._child is not None:
                self._child.kill()


class LocalWorkers:
    """So many workers, which start when they are needed."""

    def __init__(self, count: int) -> None:
        self.capacity = AHEAD * count  #: items that may be on the way at once
        self._workers = [Worker() for _ in range(count)]
        self._idle: LifoQueue[Worker] = LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count)

    def submit(self, work: bytes, arguments: bytes, limit: float) -> Future[Outcome]:
        """Have a worker do a job, see ``Worker.attempt``."""
        return self._threads.submit(self._attempt, work, arguments, limit)

    def outcome(self, future: Future[Outcome]) -> Outcome:
        """What came of a job."""
        return future.result()

    def end(self) -> None:
        """Kill the processes. May be called twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._threads.shutdown()

    def _attempt(self, work: bytes, arguments: bytes, limit: float) -> Outcome:
        worker = self._idle.get()
        try:
            return worker.attempt(work, arguments, limit)
        finally:
            self._idle.put(worker)
