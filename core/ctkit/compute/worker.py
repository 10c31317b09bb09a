"""What runs inside a worker process: one item at a time, marked in the journal and under a time limit."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from ctkit.errors import CtkitError, StorageError

#: Native libraries start as many threads as there are cores; in a worker for each core that would be far too many.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


@dataclass(frozen=True)
class Returned:
    """The work is done."""

    result: Any


@dataclass(frozen=True)
class Raised:
    """The work raised an exception."""

    reason: str  #: safe to show
    trace: str  #: for the debug log
    storage: bool  #: the disk is full or cannot be written


@dataclass(frozen=True)
class Suspect:
    """The work ended its process, outlasted its time, or took more memory than there was."""

    reason: str = ""  #: safe to show


Outcome = Returned | Raised | Suspect


def pickled(thing: Any) -> bytes:
    """Pickle what a worker needs: by reference where it can be imported, else by value."""
    import cloudpickle  # type: ignore[import-untyped]  # ships no types

    return bytes(cloudpickle.dumps(thing))


def attempt(work: bytes, item: bytes, name: str, mark: Path, time_limit: float) -> Outcome:
    """Do pickled ``work`` on a pickled item, unless a mark says that another worker died at it.

    An item that outlasts its time ends this process. What is raised here is no fault of the item: the process cannot
    import what it needs.
    """
    do, thing = unpickled(work), pickle.loads(item)  # noqa: S301  # from our own main process
    try:
        journal = mark.open("x", encoding="utf-8")
    except FileExistsError:
        return Suspect()
    except OSError as error:
        return Raised(f"a worker cannot write its journal {mark.parent}: {error.strerror}", "", storage=True)
    with journal:
        journal.write(f"{name}\n")
        journal.flush()
        with _ending_after(time_limit, journal):
            outcome = call(do, thing)
    mark.unlink(missing_ok=True)
    return outcome


@lru_cache(maxsize=4)
def unpickled(work: bytes) -> Callable[[Any], Any]:
    """Unpickle the work of a stage once per process."""
    return pickle.loads(work)  # type: ignore[no-any-return]  # noqa: S301  # from our own main process


def call(do: Callable[[Any], Any], thing: Any) -> Outcome:
    """Do the work. Warnings about the data are dropped: they would quote patients, and nobody sees this process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Returned(do(thing))
    except MemoryError:
        return Suspect("ran out of memory")
    except CtkitError as error:
        return Raised(str(error), traceback.format_exc(), isinstance(error, StorageError))
    except BaseException as error:
        return Raised(f"failed with {type(error).__name__}", traceback.format_exc(), storage=False)


# --- time limit ---------------------------------------------------------------------------------------------------

_deadlines: dict[TextIO, float] = {}
_deadlines_lock = threading.Lock()


@contextmanager
def _ending_after(seconds: float, journal: TextIO) -> Iterator[None]:
    """End this process when the block takes longer; where it was then is written to ``journal``.

    ``faulthandler`` watches from a thread that needs no interpreter, so native code that never comes back is ended
    too. It has one alarm for the whole process, and a Dask worker may have several threads: the first deadline counts.
    """
    with _deadlines_lock:
        _deadlines[journal] = time.monotonic() + seconds
        _set_alarm()
    try:
        yield
    finally:
        with _deadlines_lock:
            del _deadlines[journal]
            _set_alarm()


def _set_alarm() -> None:
    if not _deadlines:
        faulthandler.cancel_dump_traceback_later()
        return
    journal, deadline = min(_deadlines.items(), key=lambda entry: entry[1])
    faulthandler.dump_traceback_later(max(deadline - time.monotonic(), 0.001), exit=True, file=journal)


# --- a process of our own -----------------------------------------------------------------------------------------


def settle_in(parent: Connection, quiet: bool) -> None:
    """Make this process a worker: deaf to Ctrl-C, gone when its parent is gone, and ``quiet`` where nobody debugs.

    Batch systems send SIGTERM to all processes of a job; what it means for the work, the parent decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if quiet:  # native decoders write to the terminal, and quote headers there
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


def _end_with(parent: Connection) -> None:
    try:
        parent.recv_bytes()  # nothing is ever sent: it ends when the other end closes
    except EOFError:
        os._exit(1)
