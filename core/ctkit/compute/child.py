"""A child process for one piece of work: it says when it is ready and what came of the work, or how it ended."""

from __future__ import annotations

import logging
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from ctkit.compute import worker
from ctkit.compute.lanes import surroundings, without_interrupts

_log = logging.getLogger("ctkit.compute")

#: Seconds in which a process that has closed its end of the pipe is known to be gone.
_GONE = 10.0


def start_child(name: str, work: Callable[[Any], object], item: object, threads: int = 1) -> LocalProcess:
    """Do work on an item in a child process, whose native libraries have so many threads each."""
    environment = dict.fromkeys(worker.ONE_THREAD, str(threads))
    return LocalProcess(name, worker.pickled(work), worker.pickled(item), environment)


class LocalProcess:
    """Pickled work on a pickled item in a process of its own. It ends with this process, and hears no Ctrl-C."""

    def __init__(self, name: str, work: bytes, item: bytes, environment: Mapping[str, str]) -> None:
        self.name = name  #: for messages
        self._process, self._messages = launch(_work, work, item, environment=environment)

    def is_ready(self, seconds: float) -> bool:
        """Wait until imports are done and the work begins; whether it did within the time."""
        return self._message(seconds) is not None

    def outcome(self, seconds: float) -> worker.Outcome | None:
        """Wait for what comes of the work, once it was ready; None where nothing came within the time, or ever."""
        message = self._message(seconds)
        return pickle.loads(message) if message else None  # noqa: S301  # from our own process

    @property
    def died(self) -> bool:
        """Whether the process is gone and had not done its work."""
        return bool(self._process.exitcode)

    @property
    def death(self) -> str | None:
        """How the process ended, in words; None while it goes on."""
        code = self._process.exitcode
        return None if code is None else f"{self.name} died ({ending(code)})"

    def failure(self) -> str | None:
        """Why the process died: what its work raised, or how it ended; None where it did not. To be asked once."""
        if not self.died:
            return None
        outcome = self.outcome(0)
        if outcome is None or isinstance(outcome, worker.Returned):
            return self.death
        if isinstance(outcome, worker.Raised):
            _log.debug("%s:\n%s", self.name, outcome.trace)
        return f"{self.name}: {outcome.reason}"

    def join(self, seconds: float) -> None:
        """Wait for the process to end by itself."""
        self._process.join(seconds)

    def kill(self) -> None:
        """End the process and those that it started, if they have not ended. May be called twice."""
        from loky.backend.utils import kill_process_tree

        kill_process_tree(self._process)
        self._messages.close()

    def _message(self, seconds: float) -> bytes | None:
        """The next message; None where none comes within the time, or the process is gone."""
        try:
            return self._messages.recv_bytes() if self._messages.poll(seconds) else None
        except (EOFError, OSError):  # it ended before or while it answered
            self._process.join(_GONE)
            return None


def launch(
    target: Callable[..., None], *arguments: object, environment: Mapping[str, str], duplex: bool = False
) -> tuple[Any, Connection]:
    """Start a process that calls ``target`` with its end of a pipe, what ``worker.settle_in`` needs, and arguments.

    Returns the process and this end of the pipe.
    """
    from loky.backend import get_context

    context = get_context("loky")
    here, there = context.Pipe(duplex)
    try:
        process = context.Process(target=target, args=(there, *surroundings(), *arguments), env=dict(environment))
        with without_interrupts():
            process.start()
    except BaseException:
        here.close()
        raise
    finally:
        there.close()
    return process, here


def ending(exitcode: int) -> str:
    """How a process ended, in words: a negative exit code is a signal."""
    if exitcode == -getattr(signal, "SIGKILL", 0):
        return "SIGKILL, as when memory runs out"
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"


# --- in the child ----------------------------------------------------------------------------------------------------


def _work(messages: Connection, parent: Connection, quiet: bool, work: bytes, item: bytes) -> None:
    worker.settle_in(parent, quiet)
    do, thing = worker.unpickled(work), pickle.loads(item)  # noqa: S301  # from our own parent
    messages.send_bytes(b"")
    outcome = worker.call(do, thing)
    messages.send_bytes(worker.pickled(outcome))
    if not isinstance(outcome, worker.Returned):
        sys.exit(1)
