"""Ctrl-C: pressed once, the step or item at hand is finished and saved; pressed twice, the run stops at once.

SIGTERM, as ``kill`` and batch systems send it, asks for the same.

Whoever works in pieces asks ``asked()`` after each of them, or calls ``check()``, which ends the run from there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

NOTICE = "finishing the current step and saving it; press Ctrl-C again to stop now"

_asked = threading.Event()
_insisted = threading.Event()  #: asked twice
_last: list[int] = []  #: the signal that came last


class Terminated(KeyboardInterrupt):
    """The run ends because of SIGTERM."""


def exit_code(error: BaseException | None) -> int:
    """Exit code, as shells count them, of a command that ``error`` interrupted."""
    return 143 if isinstance(error, Terminated) else 130


def asked() -> bool:
    """Whether the user wants the run to stop after the piece of work at hand."""
    return _asked.is_set()


def insisted() -> bool:
    """Whether the user wants the run to stop at once, unsaved."""
    return _insisted.is_set()


def ask() -> None:
    """Ask this process to stop after the piece of work at hand, as another process was asked to."""
    _asked.set()


def check() -> None:
    """Raise ``KeyboardInterrupt`` where the user wants the run to stop; call it where everything is saved."""
    if asked():
        raise _reason()


@contextmanager
def patient() -> Iterator[None]:
    """Let the first Ctrl-C only ask for an end, and the second raise ``KeyboardInterrupt``, until the block ends.

    SIGTERM counts as Ctrl-C. Handlers belong to the main thread; in another one both stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _forget()
    before = {number: signal.signal(number, _interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _forget()


def _forget() -> None:
    _asked.clear()
    _insisted.clear()


def _interrupted(number: int, frame: FrameType | None) -> None:
    _last[:] = [number]
    if asked():
        _insisted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise _reason()
    _asked.set()
    with suppress(OSError, ValueError):  # not through the stream's buffer, which may be in the middle of a write
        os.write(sys.stderr.fileno(), f"\nctkit: {NOTICE}\n".encode())


def _reason() -> KeyboardInterrupt:
    return Terminated() if _last == [signal.SIGTERM] else KeyboardInterrupt()
