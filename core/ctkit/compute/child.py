"""Child processes: start one, send it jobs, receive what comes of them, end it, and know what it died of.

All deadlines are kept here, in the parent: a child that is stopped, or hangs in native code, cannot keep its own.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from queue import Empty, SimpleQueue
from typing import IO, Any

from ctkit.compute.worker import ONE_THREAD, READY, Begun, Levels, Raised, Request, Returned, pickled
from ctkit.errors import CtkitError

_log = logging.getLogger("ctkit.compute")

START = 120.0  #: seconds a process may take to import what a job needs
LIMIT = 300.0  #: seconds a process may be stopped, or wait for a disk, without being ended
CANNOT_START = "a worker cannot start its work: {}; the same ctkit and plugins must be installed where workers run"
_LOOK = 1.0  #: seconds between looks at a process that says nothing
_GONE = 10.0  #: seconds in which a process that was killed is gone, unless it waits for a disk
_RUN = "import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; {}from ctkit.compute.worker import serve; serve()"


class Cause(Enum):
    """Why nothing came of a job."""

    RAISED = "raised"  #: the work raised an exception
    MEMORY = "memory"  #: there was too little, or the process was killed as it is then
    TIME = "time"  #: the work took longer than its time limit
    STOPPED = "stopped"  #: the process was stopped, or waited for a disk, until its time limit
    TERMINATED = "terminated"  #: SIGTERM, as batch systems send it to all processes of a job
    DIED = "died"  #: another signal, or an exit

    @property
    def may_pass(self) -> bool:
        """Whether the same work may well succeed another time."""
        return self in (Cause.MEMORY, Cause.STOPPED)


@dataclass(frozen=True)
class Died:
    """A process ended, or was ended at its limit, before its work was done."""

    cause: Cause
    reason: str  #: safe to show


Outcome = Returned | Raised | Died


class Child:
    """A process of its own. It ends with this process, and hears no Ctrl-C.

    ``environment`` is added to this process's. With ``levels`` the child's log is sent here. ``imports`` are modules
    that it imports before there is a job, for those who start it early. Messages go to
    ``inbox``, which several children may share: each as this child and either the number of a job and what concerns
    it, or at the end ``Died``.
    """

    def __init__(
        self,
        name: str,
        environment: Mapping[str, str] = ONE_THREAD,
        inbox: SimpleQueue[tuple[Child, Any]] | None = None,
        levels: Levels | None = None,
        imports: str = "",
    ) -> None:
        import psutil  # type: ignore[import-untyped]  # ships no types

        self.name = name  #: for messages
        self._inbox = SimpleQueue() if inbox is None else inbox
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603  # this Python, on our own code
            [sys.executable, "-c", _RUN.format(f"import {imports}; " if imports else ""), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,  # a terminal sends Ctrl-C to its session alone
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        self._seen = psutil.Process(self._process.pid)
        self._death: Died | None = None
        self._jobs = 0
        self._known: bytes | None = None  # work that it has imported
        self._looked = time.monotonic()
        self._switches: int | None = None  # of contexts, at the last look, where it was stopped then
        self._suspended = 0.0  # seconds that it has been stopped
        self._gone = False  # it was, at the last look
        self.send((not logging.getLogger("ctkit").isEnabledFor(logging.DEBUG), levels))
        for target, stream in ((self._write, self._process.stdin), (self._listen, self._process.stdout)):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, message: object) -> None:
        """Send a message, in the background: a process that is stopped takes none. Raises what pickling raises."""
        self._outbox.put(pickle.dumps(message))

    def start(self, work: bytes, arguments: bytes, callbacks: Sequence[str] = ()) -> int:
        """Send a job, see ``Request``; return its number."""
        self._jobs += 1
        self.send(Request(self._jobs, work, arguments, tuple(callbacks)))
        return self._jobs

    def call(self, work: bytes, arguments: bytes, limit: float) -> Outcome | None:
        """Do a job within a time limit, and return what comes of it; None where the process dies before it begins.

        A process that outlasts the limit is ended. The time for imports is not counted. Raises ``CtkitError`` where the
        process cannot import what the job needs.
        """
        self.start(work, arguments)
        begun = self.receive(limit if work == self._known else START)
        if isinstance(begun, Raised):
            if isinstance(begun.error, MemoryError):  # of one job, whose arguments need what others hold
                return begun
            raise CtkitError(CANNOT_START.format(f"{begun.kind}: {begun.error}"))
        if not isinstance(begun, Begun):
            self.kill()
            return None
        self._known = work
        outcome: Outcome | None = self.receive(limit)
        return outcome or self.overdue(limit)

    def receive(self, seconds: float) -> Any:
        """The next message, for a child with an inbox of its own; what it died of; None if nothing comes in time.

        Only time that this process sees pass is counted: while a machine sleeps, or Ctrl-Z stops all, no time passes.
        """
        tick = min(_LOOK, seconds / 4)
        while True:
            with suppress(Empty):
                message = self._inbox.get(timeout=tick)[1]
                return message if isinstance(message, Died) else message[1]
            seconds -= tick or 1.0
            if tick:
                self.look()
            if seconds <= 0 or self._death:
                return self._death

    def look(self, limit: float = float("inf")) -> None:
        """Look after the process, about every second: end it where it has been stopped for so many seconds."""
        import psutil

        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LOOK), now
        before, self._switches = self._switches, None
        with suppress(psutil.Error):
            if self._seen.status() in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP):
                self._switches = sum(self._seen.num_ctx_switches())
        same = before is not None and before == self._switches  # else it has run in between
        self._suspended = self._suspended + passed if same else 0.0
        if self._suspended >= limit and not self._death:
            self._inbox.put((self, self.overdue(limit)))
        elif self._process.poll() is not None and not self._death:  # what it forked may hold the channel open
            if self._gone:
                self._inbox.put((self, self._ended()))
            self._gone = True

    def overdue(self, limit: float) -> Died:
        """End the process at its limit; return what is to be said of that."""
        died = Died(Cause.TIME, f"took longer than {limit:g} s")
        if self._suspended:
            died = Died(Cause.STOPPED, f"{self.name} was stopped, or waited for a disk, for {limit:g} s")
        self._death = self._death or died
        self.kill()
        return self._death

    def kill(self) -> None:
        """End the process and those that it started, if they have not ended. May be called twice."""
        import psutil

        if self._process.poll() is None and hasattr(os, "killpg"):  # its group has those whose own parent has ended
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(psutil.Error):
            for process in (*self._seen.children(recursive=True), self._seen):
                with suppress(psutil.Error):
                    process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that waits for a disk cannot be ended before it is back
            self._process.wait(_GONE)
        self._outbox.put(None)

    def _write(self, stream: IO[bytes]) -> None:
        with suppress(OSError), stream:  # a death is noticed by who listens
            while (message := self._outbox.get()) is not None:
                stream.write(message)
                stream.flush()

    def _listen(self, stream: IO[bytes]) -> None:
        with suppress(Exception), stream:  # whatever ends the stream ends the process
            printed = b""
            while not printed.endswith(READY):
                if not (byte := stream.read(1)):
                    raise EOFError
                printed += byte
            while True:
                message = pickle.load(stream)  # noqa: S301  # from our own process, as the next
                try:
                    self._inbox.put((self, pickle.loads(message)))  # noqa: S301
                except Exception as error:  # what a plugin returns may be pickled and not unpickled
                    self._inbox.put((self, (self._jobs, Raised(error, type(error).__name__, traceback.format_exc()))))
        self._inbox.put((self, self._ended()))

    def _ended(self) -> Died:
        """What a process died of that closed its end of the channel."""
        if self._death is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GONE)
            self._death = death(self.name, self._process.poll())
        return self._death


def death(name: str, code: int | None) -> Died:
    """What an exit code says of the process ``name``: a negative one is a signal."""
    if code == -getattr(signal, "SIGKILL", 0):
        return Died(Cause.MEMORY, f"{name} died (SIGKILL, as when memory runs out)")
    cause = Cause.TERMINATED if code == -signal.SIGTERM else Cause.DIED
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    return Died(cause, f"{name} died ({how})")


# --- one piece of work in a process of its own --------------------------------------------------------------------


def start_child(
    name: str, work: Callable[[Any], object], item: object, threads: int = 1, *, limit: float = LIMIT
) -> LocalProcess:
    """Do work on an item in a child process, whose native libraries have so many threads each.

    Where it is stopped for ``limit`` seconds it is ended.
    """
    return LocalProcess(name, pickled(work), pickled((item,)), threads, limit)


class LocalProcess(Child):
    """Work in a process of its own, which is to be asked now and then how it is. Any thread may ask."""

    def __init__(self, name: str, work: bytes, arguments: bytes, threads: int, limit: float) -> None:
        super().__init__(name, dict.fromkeys(ONE_THREAD, str(threads)))
        self._limit = limit
        self._outcome: Outcome | None = None
        self.start(work, arguments)

    def is_ready(self, seconds: float) -> bool:
        """Wait until imports are done and the work begins; whether it did within the time."""
        message = self.receive(seconds)
        if not isinstance(message, Begun):
            self._outcome = message
        return isinstance(message, Begun)

    def outcome(self, seconds: float) -> Outcome | None:
        """Wait for what comes of the work, once it was ready; None where nothing came within the time."""
        if self._outcome is None:
            self.look(self._limit)
            self._outcome = self.receive(seconds)
        return self._outcome

    @property
    def died(self) -> bool:
        """Whether the process is gone, or its work failed; where it is stopped for too long it is ended."""
        return isinstance(self.outcome(0), Raised | Died)

    def failure(self) -> str | None:
        """Why the process died: what its work raised, or how it ended; None where it did not."""
        outcome = self.outcome(0)
        if isinstance(outcome, Raised):
            _log.debug("%s:\n%s", self.name, outcome.trace)
            return f"{self.name}: {reason(outcome)}"
        if isinstance(outcome, Died):
            return outcome.reason
        return None

    def join(self, seconds: float) -> None:
        """Wait for the work to end by itself."""
        self.outcome(seconds)


def reason(raised: Raised) -> str:
    """What may be shown of an exception: the words of those that are ours, else the type alone."""
    own = isinstance(raised.error, CtkitError) and raised.kind == type(raised.error).__name__
    return str(raised.error) if own else f"failed with {raised.kind}"
