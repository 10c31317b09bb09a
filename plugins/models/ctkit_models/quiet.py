"""Lightning without its banners, tips and warnings that do not concern our users, and with an honest Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric.utilities.warnings import PossibleUserWarning

LOGGERS = ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages below errors, and its advice on workers and logging, which the engine decides."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # Lightning's own use of torch
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def honest_interrupt() -> Iterator[None]:
    """Let Ctrl-C through: Lightning turns it into ``SystemExit(1)`` and leaves the process deaf to the next one."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from ended
        raise
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def deaf_to_interrupts(worker: int) -> None:
    """Make a loader's process ignore Ctrl-C, which is for the process that it serves: that one finishes its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
