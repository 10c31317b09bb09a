"""Long work on a device: one piece after the other in this process, or several at once in processes beside it.

What comes before and after an errand, such as locks, log, progress and publishing, stays in this process: it is written
as a generator, a *chore*, that yields errands and is sent what came of them.
"""

from __future__ import annotations

import logging
import pickle
import signal
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
from typing import Any, TypeVar

from ctkit import stopping
from ctkit.compute import worker
from ctkit.compute.child import ending, launch
from ctkit.errors import CtkitError, PluginError

Result = TypeVar("Result")
Environment = Mapping[str, str]
Levels = tuple[int, int]  #: of the root logger and of ours


@dataclass(frozen=True)
class Errand:
    """Work that another process may do, as ``work(**hear)``; what it tells by these functions is heard in this one."""

    work: Callable[..., Any]  #: small: a function, or a ``partial`` of a function and what it needs
    hear: Mapping[str, Callable[..., None]]


class Later:
    """What a chore yields when it cannot go on yet, because somebody else holds what it needs."""


Chore = Generator[Errand | Later, Any, Result]

_AGAIN = 1.0  #: seconds until a chore that could not go on is asked again
_STOP = b""  #: what a process is sent when it is to finish the step at hand and save it


class Crew:
    """Does the errands of chores. Its processes start with their first errand and serve until they are to ``rest``.

    They keep what they have learned, such as a task's images, and with it some memory, that of a GPU included.
    ``places`` are the environments of the processes; without any, all is done in this process, one after the other.
    """

    def __init__(self, places: Sequence[Environment] = ()) -> None:
        self._places = [_Place(environment) for environment in places]

    @property
    def size(self) -> int:
        """How many errands are done at once where there are enough."""
        return max(1, len(self._places))

    def at_once(self, errands: int) -> int:
        """How many of so many errands are done at once."""
        return max(1, min(self.size, errands))

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def rest(self) -> None:
        """End the processes, and give back what memory they hold; the next errand starts others."""
        for place in self._places:
            place.end()

    def do(self, chores: Sequence[Chore[Result]]) -> list[Result]:
        """Carry chores through and return what each of them returns.

        What an errand raises, and what hearing of it raises, is raised in its chore; a ``CtkitError`` where its process
        dies. Where the run is to stop, no further chore is begun, those under way are asked to save, and
        ``KeyboardInterrupt`` follows. What a chore raises ends the others.
        """
        try:
            return _Beside(self._places, chores).results() if self._places else [_here(chore) for chore in chores]
        except BaseException:
            self.rest()
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
        self._busy: dict[_Place, tuple[int, Errand]] = {}  # number of the chore

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
        for place in self._busy:
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
            wait([place.connection for place in self._busy], _AGAIN)
            for place in [place for place in self._busy if place.has_news]:
                self._answer(place)
        elif self._later:
            time.sleep(_AGAIN)

    def _go_on(self, number: int, step: Callable[[Chore[Any]], Errand | Later]) -> None:
        """Let a chore go on by ``step`` to its next errand, or to its end."""
        try:
            wanted = step(self._chores[number])
        except StopIteration as done:
            self._results[number] = done.value
        except KeyboardInterrupt:
            if stopping.insisted() or not stopping.asked():
                raise
            # It has saved what it had; the others may need longer.
        else:
            if isinstance(wanted, Later):
                self._later.append((time.monotonic() + _AGAIN, number))
            else:
                self._give(number, wanted)

    def _give(self, number: int, errand: Errand) -> None:
        """Give an errand to an idle process."""
        place = self._idle.pop(0)
        self._busy[place] = number, errand
        try:
            place.begin(errand)
        except Exception as error:  # it cannot be sent, or no process be started
            self._take_back(place, error)

    def _answer(self, place: _Place) -> None:
        """Hear what a process tells; when it has done its errand, the chore goes on."""
        told = place.hear()
        if isinstance(told, _Told):
            try:
                self._busy[place][1].hear[told.name](*told.values)
            except Exception as error:  # the chore's own words for it are to be heard, not the work's
                place.end()
                self._take_back(place, error)
        elif isinstance(told, logging.LogRecord):
            logging.getLogger(told.name).handle(told)
        elif told is not None:
            if not _leaves_sound(told):
                place.end()
            self._take_back(place, told)

    def _take_back(self, place: _Place, outcome: worker.Returned | BaseException) -> None:
        """Let the chore go on with what came of its errand."""
        number, _ = self._busy.pop(place)
        self._idle.append(place)
        if isinstance(outcome, worker.Returned):
            self._go_on(number, lambda chore: chore.send(outcome.result))
        else:
            self._go_on(number, lambda chore: chore.throw(outcome))


def _leaves_sound(outcome: worker.Returned | BaseException) -> bool:
    """Whether a process can be given more to do: after an unforeseen error its GPU may answer to nothing any more."""
    in_words = type(outcome) in (CtkitError, PluginError)  # of another error, which a plugin may have raised
    foreseen = isinstance(outcome, CtkitError) and not in_words
    return foreseen or isinstance(outcome, worker.Returned | KeyboardInterrupt)


class _Place:
    """A process with an environment of its own, such as that of one GPU, for one errand at a time."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._started: tuple[Any, Connection] | None = None
        self._errand = 0  #: number of the one that goes on; threads of an earlier one may still tell something
        self._stopping = False

    @property
    def connection(self) -> Connection:
        """Where news come from, once something was begun."""
        assert self._started is not None, "news come from processes that were begun"
        return self._started[1]

    @property
    def has_news(self) -> bool:
        """Whether ``hear`` need not wait."""
        return self._is_dead or self.connection.poll()

    def begin(self, errand: Errand) -> None:
        """Give the process an errand. Raises whatever keeps the errand from being sent or the process from starting."""
        order = pickle.dumps((self._errand + 1, worker.pickled((errand.work, tuple(errand.hear)))))
        if self._is_dead:  # while it had nothing to do
            self.end()
        if self._started is None:
            self._started = self._start()
        self._errand += 1
        with suppress(OSError):  # it died this moment, which is noticed where news are expected
            self.connection.send_bytes(order)

    def stop(self) -> None:
        """Ask the process once to finish the step at hand."""
        if not self._stopping:
            self._stopping = True
            with suppress(OSError):
                self.connection.send_bytes(_STOP)

    def hear(self) -> _Told | logging.LogRecord | worker.Returned | BaseException | None:
        """What the process tells next: news, a log record, the result, or what was raised; None: nothing any more."""
        if self._is_dead and not self.connection.poll():  # other processes may hold its end of the pipe open
            return self._death()
        try:
            errand, told = pickle.loads(self.connection.recv_bytes())  # noqa: S301  # our own
        except (EOFError, OSError):
            return self._death()
        return told if errand == self._errand or isinstance(told, logging.LogRecord) else None

    def end(self) -> None:
        """Kill the process; the next errand starts another."""
        if self._started is None:
            return
        from loky.backend.utils import kill_process_tree

        (process, connection), self._started = self._started, None
        kill_process_tree(process)
        connection.close()
        self._stopping = False

    @property
    def _is_dead(self) -> bool:
        return self._started is not None and self._started[0].exitcode is not None

    def _death(self) -> BaseException:
        """What the end of the process means to its errand."""
        assert self._started is not None
        process = self._started[0]
        process.join()
        self.end()
        if stopping.asked() and process.exitcode == -signal.SIGTERM:  # which was for all, and met it while it started
            return KeyboardInterrupt()
        return CtkitError(f"the process that worked on it died ({ending(process.exitcode)})")

    def _start(self) -> tuple[Any, Connection]:
        levels = logging.getLogger().level, logging.getLogger("ctkit").level
        return launch(_serve, levels, environment={**worker.ONE_THREAD, **self._environment}, duplex=True)


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
    send = _Sending(connection)
    _log_through(send, levels)
    while True:
        send.sealed(_outcome(orders.get(), send))


def _listen(connection: Connection, orders: SimpleQueue[bytes]) -> None:
    """Hear in a thread, as the work must learn in its midst that it is to stop."""
    with suppress(EOFError, OSError):  # the parent is gone, and so is this process in a moment
        while True:
            order = connection.recv_bytes()
            if order == _STOP:
                stopping.ask()
            else:
                orders.put(order)


def _outcome(order: bytes, send: _Sending) -> bytes:
    """Do an errand; return its number with what came of it, or with the error, as they are sent."""
    number, errand = pickle.loads(order)  # noqa: S301  # from our own main process
    try:
        work, names = pickle.loads(errand)  # noqa: S301  # likewise
        return worker.pickled((number, worker.Returned(work(**{name: partial(send, number, name) for name in names}))))
    except BaseException as error:
        return worker.pickled((number, _sendable(error)))


def _sendable(error: BaseException) -> BaseException:
    """An error as it is, where it can be sent and is for one errand, else in words; with its traceback as a note."""
    error.add_note(traceback.format_exc())
    error.__cause__ = error.__context__ = None  # may be what cannot be sent
    with suppress(Exception):
        again = pickle.loads(worker.pickled(error))  # noqa: S301  # our own
        if isinstance(again, Exception | KeyboardInterrupt) and str(again) == str(error):
            return error
    words = CtkitError(f"{type(error).__name__}: {error}")
    words.add_note("".join(error.__notes__))
    return words


class _Sending:
    """Sends to the parent, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def __call__(self, errand: int, name: str, *values: Any) -> None:
        """Send news of an errand."""
        self.sealed(worker.pickled((errand, _Told(name, values))))

    def sealed(self, pickled: bytes) -> None:
        """Send the number of an errand and what concerns it."""
        try:
            with self._lock:
                self._connection.send_bytes(pickled)
        except OSError:  # nobody hears this process any more
            sys.exit(1)


class _Telephone(logging.Handler):
    """Hands log records to the parent."""

    def __init__(self, send: _Sending) -> None:
        super().__init__()
        self._send = send
        self._plain = QueueHandler(SimpleQueue())  # for what it knows of records on their way

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sent = pickle.dumps((0, self._plain.prepare(record)))
        except Exception:  # a slip in whoever logs is no fault of the work
            self.handleError(record)
        else:
            self._send.sealed(sent)


def _log_through(send: _Sending, levels: Levels) -> None:
    """Let the parent log what this process has to say, from the levels on that hold there."""
    root = logging.getLogger()
    root.addHandler(_Telephone(send))
    for logger, level in zip((root, logging.getLogger("ctkit")), levels, strict=True):
        logger.setLevel(level)
    logging.captureWarnings(True)
