"""Dask clusters: each thread of a Dask worker has a child process, which does the work."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from typing import Any

from ctkit.compute.child import CANNOT_START, Cause, Died, Outcome
from ctkit.compute.workers import AHEAD, Worker
from ctkit.errors import CtkitError, RequestError

_log = logging.getLogger(__name__)
_own = threading.local()  # a thread's worker
_all: list[Worker] = []  # those of all threads


class Cluster:
    """A Dask cluster: the one at ``scheduler``, or one in this process, of so many ``workers``.

    Raises ``RequestError`` where nothing answers at ``scheduler``.
    """

    def __init__(self, workers: int, scheduler: str | None) -> None:
        with ExitStack() as stack:
            address = scheduler or stack.enter_context(_local_cluster(workers))
            self._client = stack.enter_context(_client(address))
            self._open = stack.pop_all()

    def workers(self) -> ClusterWorkers:
        """All workers of the cluster."""
        return ClusterWorkers(self._client)

    def end(self) -> None:
        """Leave the cluster; end it if it is ours."""
        while _all:
            _all.pop().end()
        self._open.close()


class ClusterWorkers:
    """The workers of a Dask cluster, as many as there are at the time."""

    _REFRESH = 5.0  # seconds; clusters grow and shrink, but asking the scheduler each time would slow it down

    def __init__(self, client: Any) -> None:
        self._executor = client.get_executor(pure=False)  # not pure: equal calls are not one call
        self._client = client
        self._capacity = 0
        self._counted = -self._REFRESH

    @property
    def capacity(self) -> int:
        """Two items for each thread of each worker there is now, and two while there is none yet."""
        if time.monotonic() > self._counted + self._REFRESH:
            threads = sum(self._client.nthreads().values())
            if not threads:
                _log.warning("the Dask cluster has no worker; waiting for one")
            self._capacity = AHEAD * max(1, threads)
            self._counted = time.monotonic()
        return self._capacity

    def submit(self, work: bytes, arguments: bytes, limit: float) -> Future[Outcome]:
        """Have a worker do a job, see ``Worker.attempt``; the scheduler passes it on where that worker ends."""
        return self._executor.submit(_attempt, work, arguments, limit)  # type: ignore[no-any-return]

    def outcome(self, future: Future[Outcome]) -> Outcome:
        """What came of a job; the scheduler gives one up that was with several workers when they ended.

        Raises ``CtkitError`` where workers cannot work.
        """
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker:
            return Died(Cause.DIED, "the workers that processed it died")
        except CtkitError:
            raise
        except CancelledError as error:
            raise CtkitError("the connection to the workers was lost") from error
        except Exception as error:
            raise CtkitError(CANNOT_START.format(f"{type(error).__name__}: {error}")) from error

    def end(self) -> None:
        """Cancel what no worker has begun."""
        self._executor.shutdown(wait=False)


def _attempt(work: bytes, arguments: bytes, limit: float) -> Outcome:
    worker: Worker | None = getattr(_own, "worker", None)
    if worker not in _all:  # there was none, or an earlier run of this process ended it
        worker = _own.worker = Worker()
        _all.append(worker)
    return worker.attempt(work, arguments, limit)


def _local_cluster(threads: int) -> Any:
    import distributed

    return distributed.LocalCluster(  # type: ignore[no-untyped-call]  # distributed has few types
        n_workers=1,
        threads_per_worker=threads,
        processes=False,
        protocol="tcp",
        memory_limit=0,  # that of the child processes is not seen
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    )


def _client(address: Any) -> Any:
    import distributed

    try:
        return distributed.Client(address, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:  # ValueError: it is no address
        raise RequestError(
            f"no Dask scheduler answers at {address}; start one: dask scheduler, and dask worker {address}"
        ) from error
