"""Long work on a device: one piece after the other in this process, or several at once in processes beside it.

What comes before and after an errand, such as locks, log, progress and publishing, stays in this process: it is written
as a generator, a *chore*, that yields errands and is sent what came of them.
"""

from __future__ import annotations

import logging
import pickle
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, TypeVar

from ctkit import stopping
from ctkit.compute import worker
from ctkit.compute.alone import ending
from ctkit.compute.lanes import surroundings, without_interrupts
from ctkit.errors import CtkitError

Result = TypeVar("Result")
Environment = Mapping[str, str]
Levels = tuple[int, int]  #: of the root logger and of ours


@dataclass(frozen=True)
class Errand:
    """Work that another process may do, as ``work(**hear)``; what it tells by these functions is heard in this one."""

    work: Callable[..., Any]  #: small: a function, or a ``partial`` of a function and what it needs
    hear: Mapping[str, Callable[..., None]]


@dataclass(frozen=True)
class Later:
    """What a chore yields when it cannot go on yet, because somebody else holds what it needs."""


LATER: Final = Later()
Chore = Generator[Errand | Later, Any, Result]

_AGAIN = 1.0  #: seconds until a chore that could not go on is asked again
_STOP = b""  #: what a process is sent when it is to finish the step at hand and save it


class Crew:
    """Does the errands of chores. Its processes start with their first errand and serve until the context is left.

    ``places`` are the environments of the processes; without any, all is done in this process, one after the other.
    """

    def __init__(self, places: Sequence[Environment] = ()) -> None:
        self._places = [_Place(environment) for environment in places]

    @property
    def size(self) -> int:
        """How many errands are done at once."""
        return max(1, len(self._places))

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self._places:
            place.end()

    def do(self, chores: Sequence[Chore[Result]]) -> list[Result]:
        """Carry chores through and return what each of them returns.

        What an errand raises is raised in its chore, a ``CtkitError`` where its process dies. Where the run is to stop,
        no further chore is begun, those under way are asked to save, and ``KeyboardInterrupt`` follows. What a chore
        raises ends the others.
        """
        try:
            return _Beside(self._places, chores).results() if self._places else [_here(chore) for chore in chores]
        except BaseException:
            for place in self._places:
                place.end()
            raise
        finally:
            for chore in chores:
                chore.close()


def _here(chore: Chore[Result]) -> Result:
    """Carry a chore through in this process."""
    try:
        step = next(chore)
        while True:
            if isinstance(step, Later):
                time.sleep(_AGAIN)
                stopping.check()
                step = next(chore)
                continue
            try:
                result = step.work(**step.hear)
            except BaseException as error:  # a chore's own block decides what it means
                step = chore.throw(error)
            else:
                step = chore.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the generator's type says what it is


# --- several at once ----------------------------------------------------------------------------------------------


class _Beside:
    """Chores that wait, chores whose errands are under way, and what has come of the others."""

    def __init__(self, places: Sequence[_Place], chores: Sequence[Chore[Any]]) -> None:
        self._chores = chores
        self._results: dict[int, Any] = {}
        self._waiting = deque(range(len(chores)))
        self._later: deque[tuple[float, int]] = deque()  # when to ask again, and whom
        self._idle = list(places)
        self._busy: dict[Connection, tuple[_Place, int, Errand]] = {}

    def results(self) -> list[Any]:
        while self._waiting or self._later or self._busy:
            if stopping.asked():
                self._stop()
            else:
                self._begin()
            self._hear()
        stopping.check()
        return [self._results[number] for number in range(len(self._chores))]

    def _stop(self) -> None:
        """Let those under way save; when none is left, end the run."""
        for place, _, _ in self._busy.values():
            place.stop()
        if not self._busy:
            stopping.check()

    def _begin(self) -> None:
        """Give idle processes something to do."""
        while self._later and self._later[0][0] <= time.monotonic():
            self._waiting.append(self._later.popleft()[1])
        while self._idle and self._waiting:
            self._go_on(self._waiting.popleft(), next)

    def _hear(self) -> None:
        """Wait for news, not longer than until a chore is to be asked again or somebody may want the run to stop."""
        if self._busy:
            for connection in wait(list(self._busy), _AGAIN):
                self._answer(*self._busy[connection])  # type: ignore[index]  # it waits for connections only
        elif self._later:
            time.sleep(_AGAIN)

    def _go_on(self, number: int, step: Callable[[Chore[Any]], Errand | Later]) -> None:
        """Let a chore go on by ``step`` to its next errand, or to its end."""
        try:
            wanted = step(self._chores[number])
        except StopIteration as done:
            self._results[number] = done.value
        except KeyboardInterrupt:  # it has saved what it had; the others may need longer
            if not stopping.asked():
                raise
        else:
            if isinstance(wanted, Later):
                self._later.append((time.monotonic() + _AGAIN, number))
            else:
                place = self._idle.pop(0)
                self._busy[place.begin(wanted)] = place, number, wanted

    def _answer(self, place: _Place, number: int, errand: Errand) -> None:
        """Hear what a process tells; when it has done its errand, the chore goes on."""
        told = place.hear()
        if isinstance(told, _Told):
            errand.hear[told.name](*told.values)
        elif isinstance(told, logging.LogRecord):
            logging.getLogger(told.name).handle(told)
        else:
            self._busy = {key: value for key, value in self._busy.items() if value[1] != number}
            self._idle.append(place)
            if isinstance(told, worker.Returned):
                self._go_on(number, lambda chore: chore.send(told.result))
            else:
                self._go_on(number, lambda chore: chore.throw(told))


class _Place:
    """A process with an environment of its own, such as that of one GPU, for one errand at a time."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._process: Any = None
        self._connection: Connection | None = None
        self._stopping = False

    def begin(self, errand: Errand) -> Connection:
        """Give the process an errand; return where its news come from."""
        connection = self._connection or self._start()
        with suppress(OSError):  # the process is dead, which is noticed where news are expected
            connection.send_bytes(worker.pickled((errand.work, tuple(errand.hear))))
        return connection

    def stop(self) -> None:
        """Ask the process once to finish the step at hand."""
        if self._connection is not None and not self._stopping:
            self._stopping = True
            with suppress(OSError):
                self._connection.send_bytes(_STOP)

    def hear(self) -> _Told | logging.LogRecord | worker.Returned | BaseException:
        """What the process tells next: news, a log record, the result, or what was raised."""
        assert self._connection is not None, "news come from processes that were begun"
        try:
            return pickle.loads(self._connection.recv_bytes())  # type: ignore[no-any-return]  # noqa: S301  # our own
        except (EOFError, OSError):
            self._process.join()
            how = ending(self._process.exitcode)
            self.end()
            return CtkitError(f"the process that worked on it died ({how})")

    def end(self) -> None:
        """Kill the process; the next errand starts another."""
        if self._connection is None:
            return
        from loky.backend.utils import kill_process_tree

        kill_process_tree(self._process)
        self._connection.close()
        self._process = self._connection = None
        self._stopping = False

    def _start(self) -> Connection:
        from loky.backend import get_context

        context = get_context("loky")
        self._connection, there = context.Pipe()
        levels = logging.getLogger().level, logging.getLogger("ctkit").level
        self._process = context.Process(
            target=_serve, args=(there, *surroundings(), levels), env={**worker.ONE_THREAD, **self._environment}
        )
        with without_interrupts():
            self._process.start()
        there.close()
        assert self._connection is not None
        return self._connection


# --- in the process beside ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """News of an errand: which of its functions to call, and with what."""

    name: str
    values: tuple[Any, ...]


def _serve(connection: Connection, parent: Connection, quiet: bool, levels: Levels) -> None:
    """Do one errand after the other until the parent ends this process."""
    worker.settle_in(parent, quiet)
    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, orders), daemon=True).start()
    tell = _Telling(connection)
    _log_through(tell, levels)
    while True:
        tell.send(_outcome(orders.get(), tell))


def _listen(connection: Connection, orders: SimpleQueue[bytes]) -> None:
    """Hear in a thread, as the work must learn in its midst that it is to stop."""
    with suppress(EOFError, OSError):  # the parent is gone, and so is this process in a moment
        while True:
            order = connection.recv_bytes()
            if order == _STOP:
                stopping.ask()
            else:
                orders.put(order)


def _outcome(order: bytes, tell: _Telling) -> bytes:
    """Do an errand; return what came of it, or the error, as it is sent."""
    try:
        work, names = pickle.loads(order)  # noqa: S301  # from our own main process
        return worker.pickled(worker.Returned(work(**{name: partial(tell, name) for name in names})))
    except BaseException as error:
        return _sendable(error)


def _sendable(error: BaseException) -> bytes:
    """An error as it is, where it can be sent and is for one errand, else in words; with its traceback as a note."""
    error.add_note(traceback.format_exc())
    error.__cause__ = error.__context__ = None  # may be what cannot be sent
    with suppress(Exception):
        sent = worker.pickled(error)
        if isinstance(pickle.loads(sent), Exception | KeyboardInterrupt):  # noqa: S301  # our own
            return sent
    words = CtkitError(f"{type(error).__name__}: {error}")
    words.add_note("".join(error.__notes__))
    return worker.pickled(words)


class _Telling:
    """Sends to the parent, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def __call__(self, name: str, *values: Any) -> None:
        """Send news of the errand."""
        self.send(worker.pickled(_Told(name, values)))

    def send(self, sent: bytes) -> None:
        """Send anything that is pickled."""
        try:
            with self._lock:
                self._connection.send_bytes(sent)
        except OSError:  # nobody hears this process any more
            sys.exit(1)


class _Telephone(logging.Handler):
    """Hands log records to the parent."""

    def __init__(self, tell: _Telling) -> None:
        super().__init__()
        self._tell = tell
        self._plain = QueueHandler(SimpleQueue())  # for what it knows of records on their way

    def emit(self, record: logging.LogRecord) -> None:
        self._tell.send(pickle.dumps(self._plain.prepare(record)))


def _log_through(tell: _Telling, levels: Levels) -> None:
    """Let the parent log what this process has to say, from the levels on that hold there."""
    root = logging.getLogger()
    root.addHandler(_Telephone(tell))
    for logger, level in zip((root, logging.getLogger("ctkit")), levels, strict=True):
        logger.setLevel(level)
    logging.captureWarnings(True)
