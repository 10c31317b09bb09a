"""What runs in a child process: one job after the other, as the parent sends them by standard input."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from logging.handlers import QueueHandler
from operator import attrgetter
from queue import SimpleQueue
from types import FunctionType
from typing import IO, Any

from ctkit import stopping
from ctkit.errors import CtkitError
from ctkit.plugins import Source

#: Native libraries start as many threads as there are cores; in a worker for each core that would be far too many.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
Levels = tuple[int, int]  #: of the root logger and of ours
READY = b"\0ctkit\0"  #: comes before the first message; what is before it was printed while Python started


@dataclass(frozen=True)
class Request:
    """Pickled work on pickled arguments. In the child, it may call ``callbacks`` by name, which the parent hears."""

    number: int
    work: bytes
    arguments: bytes
    callbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Begun:
    """Everything that a job needs is imported, and its work begins."""


@dataclass(frozen=True)
class Called:
    """A job has called one of its callbacks."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Returned:
    """The work is done."""

    result: Any


@dataclass(frozen=True)
class Raised:
    """The work raised an exception; one that cannot be sent is a ``CtkitError`` here, with the words of the other."""

    error: BaseException
    kind: str  #: name of its type
    trace: str  #: for the debug log


def pickled(thing: Any) -> bytes:
    """Pickle what a worker needs: by reference where it can be imported, else by value; with the file of a plugin."""
    with io.BytesIO() as stream:
        _pickler()(stream).dump(thing)
        return stream.getvalue()


@cache
def _pickler() -> Any:
    import cloudpickle  # type: ignore[import-untyped]  # ships no types

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # no types
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, type | FunctionType) and (source := source_of(thing)):
                return _member, (source, thing.__qualname__)
            return super().reducer_override(thing)

    return Pickler


def source_of(thing: Any) -> Source | None:
    """The file of a plugin that a class or function comes from; None where it can be imported by its name."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    source: Source | None = getattr(module, "_ctkit_source", None)
    try:
        return source if source and attrgetter(thing.__qualname__)(module) is thing else None
    except AttributeError:  # it is made inside a function
        return None


def _member(source: Source, name: str) -> Any:
    return attrgetter(name)(source.module())


def serve() -> None:
    """Do jobs until the parent ends this process, or ends itself.

    Ctrl-C is the parent's. So is SIGTERM, which batch systems send to all processes: what it means, the parent decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    incoming, outgoing = (os.fdopen(os.dup(stream), mode) for stream, mode in ((0, "rb"), (1, "wb")))
    quiet, levels = pickle.load(incoming)  # noqa: S301  # from our own parent, as all that follows
    outgoing.write(READY)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream, target in ((0, nowhere), (1, nowhere if quiet else 2), (2, nowhere if quiet else 2)):
        os.dup2(target, stream)  # native decoders write to the terminal, and quote headers there
    channel, jobs = _Channel(outgoing), SimpleQueue[Request]()
    threading.Thread(target=_listen, args=(incoming, jobs), daemon=True).start()
    if levels is None:
        warnings.simplefilter("ignore")  # they would quote patients, and nobody sees this process
    else:
        _log_through(channel, levels)
    while True:
        _do(jobs.get(), channel)


def _listen(incoming: IO[bytes], jobs: SimpleQueue[Request]) -> None:
    """Hear in a thread, as the work must learn in its midst that it is to stop, or that the parent has ended."""
    with suppress(Exception):
        while True:
            message = pickle.load(incoming)  # noqa: S301
            if isinstance(message, Request):
                jobs.put(message)
            else:
                stopping.ask()
    _end()


def _end() -> None:
    """End this process, and what it started: it leads a group of its own."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _do(job: Request, channel: _Channel) -> None:
    try:
        do, arguments = _unpickled(job.work), pickle.loads(job.arguments)  # noqa: S301
        channel.send(job.number, Begun())
        callbacks = {name: partial(channel.call, job.number, name) for name in job.callbacks}
        channel.send(job.number, Returned(do(*arguments, **callbacks)))
    except BaseException as error:
        channel.send(job.number, _raised(error))


@lru_cache(maxsize=4)
def _unpickled(work: bytes) -> Callable[..., Any]:
    """Unpickle the work of a stage once per process."""
    return pickle.loads(work)  # type: ignore[no-any-return]  # noqa: S301


def _raised(error: BaseException) -> Raised:
    kind, trace = type(error).__name__, traceback.format_exc()
    error.add_note(trace)
    error.__cause__ = error.__context__ = None  # may be what cannot be sent
    with suppress(Exception):
        again = pickle.loads(pickled(error))  # noqa: S301
        if isinstance(again, Exception | KeyboardInterrupt) and str(again) == str(error):
            return Raised(error, kind, trace)
    words = CtkitError(f"{kind}: {error}")
    words.add_note(trace)
    return Raised(words, kind, trace)


class _Channel:
    """Sends to the parent, from any thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, job: int, message: object) -> None:
        """Send what concerns a job; 0 for what concerns none."""
        content = pickled((job, message))
        try:
            with self._lock:
                pickle.dump(content, self._stream)
                self._stream.flush()
        except OSError:  # nobody hears this process any more
            _end()

    def call(self, job: int, name: str, *values: Any) -> None:
        """Have the parent call one of a job's callbacks."""
        self.send(job, Called(name, values))


class _LogSender(QueueHandler):
    """Hands log records to the parent."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__(SimpleQueue())  # which stays empty
        self._channel = channel

    def enqueue(self, record: logging.LogRecord) -> None:
        self._channel.send(0, record)


def _log_through(channel: _Channel, levels: Levels) -> None:
    """Let the parent log what this process has to say, from the levels on that hold there."""
    root = logging.getLogger()
    root.addHandler(_LogSender(channel))
    for logger, level in zip((root, logging.getLogger("ctkit")), levels, strict=True):
        logger.setLevel(level)
    logging.captureWarnings(True)
