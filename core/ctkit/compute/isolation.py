"""A suspect's second chance: a process for this item only, watched from outside."""

from __future__ import annotations

import pickle
import signal
from multiprocessing.connection import Connection
from typing import Any

from ctkit.compute import worker
from ctkit.compute.lanes import surroundings, without_interrupts

#: Seconds a new process may take to import what the work needs.
_START = 120.0


def attempt(work: bytes, item: bytes, time_limit: float) -> worker.Outcome:
    """Do pickled ``work`` on a pickled item in a process of its own; a ``Suspect`` has the reason of its end."""
    from loky.backend import get_context
    from loky.backend.utils import kill_process_tree

    context = get_context("loky")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, *surroundings(), work, item), env=worker.ONE_THREAD)
    with without_interrupts():
        process.start()
    there.close()
    try:
        return _answer(here, process, time_limit)
    finally:
        kill_process_tree(process)
        here.close()


def _answer(here: Connection, process: Any, time_limit: float) -> worker.Outcome:
    try:
        if here.poll(_START):
            here.recv_bytes()  # imports are done: time starts
            if here.poll(time_limit):
                return pickle.loads(here.recv_bytes())  # type: ignore[no-any-return]  # noqa: S301  # our own process
    except (EOFError, OSError):  # it ended before or while it answered
        process.join()
        return worker.Suspect(f"the process that worked on it died ({ending(process.exitcode)})")
    return worker.Suspect(f"took longer than {time_limit:g} s")


def _work(answer: Connection, parent: Connection, quiet: bool, work: bytes, item: bytes) -> None:
    worker.settle_in(parent, quiet)
    do, thing = worker.unpickled(work), pickle.loads(item)  # noqa: S301  # from our own main process
    answer.send_bytes(b"")
    answer.send_bytes(worker.pickled(worker.call(do, thing)))


def ending(exitcode: int) -> str:
    """How a process ended, in words: a negative exit code is a signal."""
    if exitcode == -getattr(signal, "SIGKILL", 0):
        return "SIGKILL, as when memory runs out"
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"
