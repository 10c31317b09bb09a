"""Ctrl-C: pressed once, the step or item at hand is finished and saved; pressed twice, the run stops at once.

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

NOTICE = "finishing the step at hand and saving it; press Ctrl-C again to stop now"

_asked = threading.Event()


def asked() -> bool:
    """Whether the user wants the run to stop after the piece of work at hand."""
    return _asked.is_set()


def check() -> None:
    """Raise ``KeyboardInterrupt`` where the user wants the run to stop; call it where everything is saved."""
    if asked():
        raise KeyboardInterrupt


@contextmanager
def patient() -> Iterator[None]:
    """Let the first Ctrl-C only ask for an end, and the second raise ``KeyboardInterrupt``, until the block ends.

    Handlers belong to the main thread; in another one Ctrl-C stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _asked.clear()


def _interrupted(number: int, frame: FrameType | None) -> None:
    if asked():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt
    _asked.set()
    with suppress(OSError, ValueError):  # not through the stream's buffer, which may be in the middle of a write
        os.write(sys.stderr.fileno(), f"\nctkit: {NOTICE}\n".encode())
