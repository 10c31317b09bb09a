"""Ways to worker processes: a process of our own, or a Dask cluster. Both take calls and give futures."""

from __future__ import annotations

import logging
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from multiprocessing import Pipe, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ctkit.compute import worker
from ctkit.errors import CtkitError, RequestError

_log = logging.getLogger(__name__)

#: Items given to a worker: the one it works on and one on the way, so that it never waits for us.
AHEAD = 2


class Lane(ABC):
    """A way to workers, and how much is on it."""

    def __init__(self, executor: Executor) -> None:
        self.load = 0  #: items given and not yet answered
        self.executor = executor

    @property
    @abstractmethod
    def capacity(self) -> int:
        """Items that may be on the way at once."""

    def submit(self, work: bytes, item: bytes, name: str, mark: Path, time_limit: float) -> Future[worker.Outcome]:
        """Send one item to a worker; see ``worker.attempt``. Raises ``BrokenExecutor`` where it is dead."""
        future = self.executor.submit(worker.attempt, work, item, name, mark, time_limit)
        self.load += 1
        return future

    def answer(self, future: Future[worker.Outcome]) -> worker.Outcome:
        """Return what a worker answered.

        Raises ``BrokenExecutor`` where it died and ``CtkitError`` where it cannot work.
        """
        self.load -= 1
        try:
            return future.result()
        except BrokenExecutor:
            raise
        except CancelledError as error:
            raise CtkitError("the connection to the workers is lost") from error
        except Exception as error:
            raise CtkitError(
                f"a worker cannot take up its work: {type(error).__name__}: {error}; the same ctkit and plugins must be"
                " installed where workers run"
            ) from error

    @abstractmethod
    def end(self) -> None:
        """Drop what is on the way. May be called twice."""


class ProcessLane(Lane):
    """One process of our own, so that when it dies there is no doubt at what. It starts with the first item.

    Loky starts it without running the user's script again, and with an environment of its own.
    """

    capacity = AHEAD

    def __init__(self) -> None:
        import loky

        self._pool = loky.ProcessPoolExecutor(
            max_workers=1, initializer=worker.settle_in, initargs=surroundings(), env=worker.ONE_THREAD
        )
        super().__init__(self._pool)

    def submit(self, work: bytes, item: bytes, name: str, mark: Path, time_limit: float) -> Future[worker.Outcome]:
        """Send one item to the process, which the first one starts."""
        with without_interrupts():
            return super().submit(work, item, name, mark, time_limit)

    def end(self) -> None:
        """Kill the process."""
        self._pool.shutdown(wait=True, kill_workers=True)


def surroundings() -> tuple[Connection, bool]:
    """Return what ``worker.settle_in`` needs: a pipe that closes when this process ends, and whether to be quiet."""
    return _lifeline()[0], not logging.getLogger("ctkit").isEnabledFor(logging.DEBUG)


@cache
def _lifeline() -> tuple[Connection, Connection]:
    return Pipe(duplex=False)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold back Ctrl-C until the block ends; processes that are started in it never see one.

    They inherit what this thread blocks, so they are deaf even while they start. Windows has no such mask.
    """
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()  # only there handlers can be set, and are called
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if main else None
    try:
        with _interrupts_blocked() if hasattr(signal, "pthread_sigmask") else nullcontext():
            yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    from loky.backend import resource_tracker as lokys_tracker

    resource_tracker.ensure_running()  # trackers start with the first process, and let interrupts through again
    lokys_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- Dask ---------------------------------------------------------------------------------------------------------


#: After its timeout, Dask closes a worker's place for good if the worker happens to have died once more just then.
_NEVER = "1 day"


class Cluster:
    """A Dask cluster: the one at ``scheduler``, or one of ``workers`` processes on this machine.

    Raises ``RequestError`` where nothing answers at ``scheduler``.
    """

    def __init__(self, workers: int, scheduler: str | None) -> None:
        import dask

        self._local: Any = None
        with ExitStack() as stack:
            stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": _NEVER}))
            if scheduler is None:
                with without_interrupts():
                    self._local = stack.enter_context(_local_cluster(workers))
            self._client = stack.enter_context(_client(self._local or scheduler))
            self._open = stack.pop_all()

    def lane(self) -> ClusterLane:
        """Return a way to all workers of the cluster."""
        return ClusterLane(self._client)

    def end(self) -> None:
        """Leave the cluster; kill it if it is ours."""
        if self._local is not None:
            for nanny in self._local.workers.values():
                _kill(nanny)
        self._open.close()


def _local_cluster(workers: int) -> Any:
    import distributed

    return distributed.LocalCluster(  # type: ignore[no-untyped-call]  # distributed has few types
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    )


def _client(address: Any) -> Any:
    import distributed

    try:
        return distributed.Client(address, set_as_default=False)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise RequestError(
            f"no Dask scheduler answers at {address}; start one: dask scheduler, and dask worker {address}"
        ) from error


def _kill(nanny: Any) -> None:
    """Kill a worker without waiting for what it is at, which Dask's own way out would do."""
    import psutil  # type: ignore[import-untyped]  # ships no types

    nanny.close_gracefully()  # else it starts another process
    if nanny.pid is not None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(nanny.pid).kill()


class ClusterLane(Lane):
    """The workers of a Dask cluster, which restarts those that die and passes on what they held."""

    _REFRESH = 5.0  # seconds; clusters grow and shrink, but asking the scheduler each time would slow it down

    def __init__(self, client: Any) -> None:
        super().__init__(client.get_executor(pure=False))  # not pure: equal calls are not one call
        self._client = client
        self._capacity = 0
        self._counted = -self._REFRESH

    @property
    def capacity(self) -> int:
        """Two items for each thread of each worker there is now, and two while there is none yet."""
        if time.monotonic() > self._counted + self._REFRESH:
            threads = sum(self._client.nthreads().values())
            if not threads:
                _log.warning("the Dask cluster has no worker now; waiting for one")
            self._capacity = AHEAD * max(1, threads)
            self._counted = time.monotonic()
        return self._capacity

    def answer(self, future: Future[worker.Outcome]) -> worker.Outcome:
        """Return what a worker answered; the scheduler gives an item up when it has ended several workers."""
        from distributed import KilledWorker

        if isinstance(future.exception(), KilledWorker):
            self.load -= 1
            return worker.Suspect()
        return super().answer(future)

    def end(self) -> None:
        """Cancel what no worker has begun."""
        self.executor.shutdown(wait=False)
