"""Long work on devices: one call after the other in this process, or several at once in child processes.

What comes before and after a call, such as locks, log, progress and publishing, stays in this process: it is written as
a coroutine that yields calls and is sent their results.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ctkit import stopping
from ctkit.compute.child import LIMIT, Cause, Child, Died
from ctkit.compute.worker import ONE_THREAD, Begun, Called, Raised, Returned, pickled
from ctkit.errors import CtkitError, PluginError

Result = TypeVar("Result")
Environment = Mapping[str, str]


@dataclass(frozen=True)
class Call:
    """Work that another process may do, as ``work(**callbacks)``; the callbacks are called in this one."""

    work: Callable[..., Any]  #: small: a function, or a ``partial`` of a function and what it needs
    callbacks: Mapping[str, Callable[..., None]]


class Wait:
    """What a coroutine yields when it cannot go on yet, because somebody else holds what it needs."""


Coroutine = Generator[Call | Wait, Any, Result]

_AGAIN = 1.0  #: seconds until a coroutine that could not go on is asked again, and between looks at processes
_STOP = "stop"  #: what a process is sent when it is to finish the step at hand and save it


class DevicePool:
    """Does the calls of coroutines. Its processes start with their first call and serve until ``release``.

    They keep what they have learned, such as a task's images, and with it some memory, that of a GPU included.
    ``environments`` are those of the processes; without any, all is done in this process, one after the other. A
    process that is stopped for ``limit`` seconds is ended.
    """

    def __init__(self, environments: Sequence[Environment] = (), limit: float = LIMIT) -> None:
        self._inbox: SimpleQueue[tuple[Child, Any]] = SimpleQueue()
        self._processes = [_Process(environment, self._inbox) for environment in environments]
        self._limit = limit

    @property
    def size(self) -> int:
        """How many calls are done at once where there are enough."""
        return max(1, len(self._processes))

    def at_once(self, calls: int) -> int:
        """How many of so many calls are done at once."""
        return max(1, min(self.size, calls))

    def __enter__(self) -> DevicePool:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """End the processes, and give back what memory they hold; the next call starts others."""
        for process in self._processes:
            process.end()

    def run(self, coroutines: Sequence[Coroutine[Result]]) -> list[Result]:
        """Run coroutines to their end and return what each of them returns.

        What a call raises, and what its callbacks raise, is raised in its coroutine; a ``CtkitError`` where its process
        dies. Where the run is to stop, no further coroutine is begun, those under way are asked to save, and
        ``KeyboardInterrupt`` follows. What a coroutine raises ends the others.
        """
        try:
            if not self._processes:
                return [_run_here(coroutine) for coroutine in coroutines]
            return _Run(self._processes, self._inbox, coroutines, self._limit).results()
        except BaseException:
            self.release()
            raise
        finally:
            for coroutine in coroutines:
                coroutine.close()


def _run_here(coroutine: Coroutine[Result]) -> Result:
    """Run a coroutine to its end in this process."""
    try:
        step = next(coroutine)
        while True:
            if isinstance(step, Wait):
                time.sleep(_AGAIN)
                stopping.check()
                step = next(coroutine)
                continue
            try:
                result = step.work(**step.callbacks)
            except BaseException as error:  # a coroutine's own block decides what it means
                step = coroutine.throw(error)
            else:
                step = coroutine.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the generator's type says what it is


# --- several at once ----------------------------------------------------------------------------------------------


class _Process:
    """A child process with an environment of its own, such as that of one GPU, for one call at a time."""

    def __init__(self, environment: Environment, inbox: SimpleQueue[tuple[Child, Any]]) -> None:
        self._environment = {**ONE_THREAD, **environment}
        self._inbox = inbox
        self.child: Child | None = None
        self.job = 0  #: number of the one that goes on; threads of an earlier one may still send something

    def begin(self, call: Call) -> None:
        """Give the process a call. Raises whatever keeps the call from being sent or the process from starting."""
        arguments = pickled((call.work,))
        if self.child is None or not self.child.is_alive:
            levels = logging.getLogger().level, logging.getLogger("ctkit").level
            self.child = Child("the process that worked on it", self._environment, self._inbox, levels)
        self.job = self.child.start(pickled(_do), arguments, tuple(call.callbacks))

    def stop(self) -> None:
        """Ask the process to finish the step at hand."""
        if self.child is not None:
            self.child.send(_STOP)

    def look(self, limit: float) -> None:
        """End the process where it has been stopped for so long."""
        if self.child is not None:
            self.child.look(limit)

    def end(self) -> None:
        """Kill the process; the next call starts another."""
        if self.child is not None:
            self.child.kill()
            self.child = None


def _do(work: Callable[..., Any], **callbacks: Callable[..., None]) -> Any:
    return work(**callbacks)


class _Run:
    """Coroutines that wait, those whose calls are under way, and the results of the others."""

    def __init__(
        self,
        processes: Sequence[_Process],
        inbox: SimpleQueue[tuple[Child, Any]],
        coroutines: Sequence[Coroutine[Any]],
        limit: float,
    ) -> None:
        self._coroutines = coroutines
        self._inbox = inbox
        self._limit = limit
        self._results: dict[int, Any] = {}
        self._waiting = deque((0.0, number) for number in range(len(coroutines)))  # when to go on, and which
        self._idle = list(processes)
        self._busy: dict[_Process, tuple[int, Call]] = {}  # number of the coroutine
        self._asked_to_stop: set[_Process] = set()
        self._looked = time.monotonic()

    def results(self) -> list[Any]:
        while self._waiting or self._busy:
            if stopping.asked():
                self._stop()
            else:
                self._begin()
            self._receive()
        stopping.check()
        return [self._results[number] for number in range(len(self._coroutines))]

    def _stop(self) -> None:
        """Let those under way save; when none is left, end the run."""
        for process in self._busy.keys() - self._asked_to_stop:
            self._asked_to_stop.add(process)
            process.stop()
        if not self._busy:
            stopping.check()

    def _begin(self) -> None:
        """Give idle processes something to do."""
        while self._idle and self._waiting and self._waiting[0][0] <= time.monotonic():
            self._go_on(self._waiting.popleft()[1], next)

    def _receive(self) -> None:
        """Take a message, or wait until a coroutine is to be asked again or somebody may want the run to stop."""
        if not self._busy and not self._waiting:
            return
        if time.monotonic() - self._looked >= _AGAIN:
            self._looked = time.monotonic()
            for process in self._busy:
                process.look(self._limit)
        with suppress(Empty):
            child, message = self._inbox.get(timeout=_AGAIN)
            for process in [process for process in self._busy if process.child is child]:
                self._handle(process, message)

    def _go_on(self, number: int, step: Callable[[Coroutine[Any]], Call | Wait]) -> None:
        """Let a coroutine go on by ``step`` to its next call, or to its end."""
        try:
            wanted = step(self._coroutines[number])
        except StopIteration as done:
            self._results[number] = done.value
        except KeyboardInterrupt:
            if stopping.insisted() or not stopping.asked():
                raise
            # It has saved what it had; the others may need longer.
        else:
            if isinstance(wanted, Wait):
                self._waiting.append((time.monotonic() + _AGAIN, number))
            else:
                self._give(number, wanted)

    def _give(self, number: int, call: Call) -> None:
        """Give a call to an idle process."""
        process = self._idle.pop(0)
        self._busy[process] = number, call
        try:
            process.begin(call)
        except Exception as error:  # it cannot be sent, or no process be started
            self._take_back(process, error)

    def _handle(self, process: _Process, message: Any) -> None:
        """Take what a process says; when it has done its call, the coroutine goes on."""
        if isinstance(message, Died):
            process.end()
            terminated = stopping.asked() and message.cause is Cause.TERMINATED  # the signal met it while it started
            self._take_back(process, KeyboardInterrupt() if terminated else CtkitError(message.reason))
            return
        job, content = message
        if isinstance(content, logging.LogRecord):
            logging.getLogger(content.name).handle(content)
        elif job != process.job or isinstance(content, Begun):
            return
        elif isinstance(content, Called):
            try:
                self._busy[process][1].callbacks[content.name](*content.values)
            except Exception as error:  # the coroutine's own words for it are to be heard, not the work's
                process.end()
                self._take_back(process, error)
        else:
            outcome = content.error if isinstance(content, Raised) else content
            unclear = type(outcome) in (CtkitError, PluginError)  # of another error, which a plugin may have raised
            if unclear or not isinstance(outcome, CtkitError | Returned | KeyboardInterrupt):
                process.end()  # after an unforeseen error its GPU may answer to nothing any more
            self._take_back(process, outcome)

    def _take_back(self, process: _Process, outcome: Returned | BaseException) -> None:
        """Let the coroutine go on with what came of its call."""
        number, _ = self._busy.pop(process)
        self._idle.append(process)
        if isinstance(outcome, Returned):
            self._go_on(number, lambda coroutine: coroutine.send(outcome.result))
        else:
            self._go_on(number, lambda coroutine: coroutine.throw(outcome))
