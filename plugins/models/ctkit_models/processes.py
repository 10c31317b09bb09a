"""Processes of our own for the other devices of this machine; the one that asks for them is the first of them all.

They end with the process that started them, however it ends. When one of them dies, the others do not wait for it.
"""

from __future__ import annotations

import logging
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from threading import Event, Thread

import torch
from torch.distributed import TCPStore, distributed_c10d  # type: ignore[attr-defined]  # torch exports it no other way

from ctkit.compute import ending, surroundings, without_interrupts, worker
from ctkit.errors import CtkitError, TrainingError
from ctkit_models.ranks import PATIENCE, Rank, Work, joined, meet

log = logging.getLogger("ctkit.models")

_HOST, _NAME = "127.0.0.1", "training"
_START = 300.0  #: seconds that a process may take to import what the work needs
_BLAME = 10.0  #: seconds in which a process whose end made this one fail is known to be gone
_END = 60.0  #: seconds that processes may take to end after the work is done


@contextmanager
def among(world: int, work: Work, device: str) -> Iterator[Rank]:
    """Be the first of ``world`` processes, whose others do ``work``; the block is this one's own part in it.

    ``work`` is pickled. Raises ``TrainingError`` where another process fails.
    """
    store = TCPStore(_HOST, 0, is_master=True, timeout=PATIENCE, wait_for_workers=False)
    do = worker.pickled(partial(_take_part, work, device, store.port))
    others = [_Other(Rank(number, world, number, world), do, device) for number in range(1, world)]
    first = Rank(0, world, 0, world)
    try:
        for other in others:
            other.wait_until_ready()
        with joined(first, store, _NAME, device), _ending(others), _watching(others, device), _blaming(others):
            yield first
            meet()
        for other in others:
            other.finish()
    finally:
        for other in others:
            other.kill()


class _Other:
    """One of the other processes."""

    def __init__(self, rank: Rank, work: bytes, device: str) -> None:
        from loky.backend import get_context

        context = get_context("loky")
        self._name = f"process {rank.number + 1} of {rank.world}"
        self._answer, there = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_work, args=(there, *surroundings(), work, worker.pickled(rank)), env=_threads(device)
        )
        with without_interrupts():
            self._process.start()
        there.close()

    def wait_until_ready(self) -> None:
        """Wait until the process is about to join. Raises ``TrainingError`` where it never will."""
        try:
            if self._answer.poll(_START):
                self._answer.recv_bytes()
                return
        except (EOFError, OSError):
            self._process.join(_BLAME)
        raise TrainingError(self.failure() or f"{self._name} did not start within {_START:g} s")

    @property
    def died(self) -> bool:
        """Whether the process is gone and was not done."""
        return bool(self._process.exitcode)

    def failure(self) -> str | None:
        """Why the process died; None where it did not. To be asked once."""
        if not self.died:
            return None
        try:
            outcome = pickle.loads(self._answer.recv_bytes())  # noqa: S301  # from our own process
        except (EOFError, OSError):
            return f"{self._name} died ({ending(self._process.exitcode)})"
        if isinstance(outcome, worker.Raised):
            log.debug("%s:\n%s", self._name, outcome.trace)
        return f"{self._name}: {outcome.reason}"

    def finish(self) -> None:
        """Wait for the process to end by itself."""
        self._process.join(_END)

    def kill(self) -> None:
        """End the process if it has not ended."""
        from loky.backend.utils import kill_process_tree

        kill_process_tree(self._process)
        self._answer.close()


def _threads(device: str) -> dict[str, str]:
    """Environment of another process; on the CPU ``joined`` shares out as many threads there as here."""
    if torch.device(device).type == "cuda":
        return worker.ONE_THREAD
    return dict.fromkeys(worker.ONE_THREAD, str(torch.get_num_threads()))


@contextmanager
def _ending(others: list[_Other]) -> Iterator[None]:
    """Where the block fails, end the others before this process leaves them: they might wait for it."""
    try:
        yield
    except BaseException:
        for other in others:
            other.kill()
        raise


@contextmanager
def _blaming(others: list[_Other]) -> Iterator[None]:
    """Where what fails here is the talk with a process that is gone, say so instead."""
    try:
        yield
    except (CtkitError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError) as error:  # the latter for a group that was left
        until = time.monotonic() + _BLAME
        while not any(other.died for other in others) and time.monotonic() < until:
            time.sleep(0.05)
        for failure in (other.failure() for other in others if other.died):
            raise TrainingError(f"{failure}; the same command goes on from the last checkpoint") from error
        raise


@contextmanager
def _watching(others: list[_Other], device: str) -> Iterator[None]:
    """Leave the talk when one of the processes dies: NCCL would wait for it to the end of its patience."""
    over = Event()
    if torch.device(device).type == "cuda":  # gloo notices by itself
        Thread(target=_leave_when_one_dies, args=(others, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _leave_when_one_dies(others: list[_Other], over: Event) -> None:
    while not over.wait(1.0):
        if any(other.died for other in others):
            distributed_c10d._abort_process_group()
            return


# --- in the other processes ---------------------------------------------------------------------------------------


def _work(answer: Connection, parent: Connection, quiet: bool, work: bytes, rank: bytes) -> None:
    worker.settle_in(parent, quiet)
    do, place = worker.unpickled(work), pickle.loads(rank)  # noqa: S301  # from our own first process
    answer.send_bytes(b"")
    outcome = worker.call(do, place)
    if not isinstance(outcome, worker.Returned):
        answer.send_bytes(worker.pickled(outcome))
        sys.exit(1)


def _take_part(work: Work, device: str, port: int, rank: Rank) -> None:
    store = TCPStore(_HOST, port, is_master=False, timeout=PATIENCE)
    with joined(rank, store, _NAME, device):
        work(rank)
        meet()
