"""Lightning without its banners, tips and warnings that do not concern our users, and with an honest Ctrl-C."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytorch_lightning as lightning
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
    """Let Ctrl-C through: Lightning turns it into ``SystemExit(1)`` and has the process ignore the next one."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise type(ended.__context__) from ended
        raise
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


class OwnTermination(lightning.Callback):
    """Keeps SIGTERM as it was: Lightning's handler ends a training unsaved, with the exit code of success."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the handler back that Lightning has just replaced."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


def ignore_interrupts(worker: int) -> None:
    """Make a loader's process ignore Ctrl-C, which is for the process that it serves: that one finishes its step.

    So it is with the first SIGTERM, which may have been for all processes; the second is how Python ends children.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _pass_once)


def _pass_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
