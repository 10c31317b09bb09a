"""``batch = "auto"``: the largest power of two of slices that a device's memory holds, found by trying."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from pytorch_lightning.utilities.memory import is_oom_error

from ctkit.contracts import Pretraining
from ctkit.errors import TrainingError
from ctkit.files import read_sealed, write_bytes
from ctkit_models.network import Trainable
from ctkit_models.plan import Plan, largest_batch, plan_run

SMALLEST = 2
_TALK = 0.1  # of a GPU's memory
_STEPS = 2  #: the optimiser takes its memory in the first

Train = Callable[[Trainable, Plan, Pretraining], object]


def found_batch(method: Trainable, job: Pretraining, volumes: int, processes: int, train: Train) -> int:
    """The batch of a training that several processes share, as found when it first started.

    ``train`` is tried on one device with a piece of the batch, which is what each device holds at a time.
    """
    note = job.folder / "batch.json"
    if earlier := read_sealed(note):
        return int(earlier)
    pieces: int = processes * method.params.accumulate
    most = largest_batch(method.params, len(job.rows), volumes) // pieces
    with _room_for_talk(processes):
        piece = largest(lambda size: _fits(method, job, size, train), most)
    write_bytes(note, str(piece * pieces).encode(), sealed=True)
    return piece * pieces


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two up to ``most`` that ``fits``. Raises ``TrainingError`` where not even two do."""
    size = SMALLEST
    if not fits(size):
        raise TrainingError(
            f"not even {size} slices fit into the memory of the device; take a smaller backbone or size"
        )
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


@contextmanager
def _room_for_talk(processes: int) -> Iterator[None]:
    """Where processes share a training, leave memory for what they send each other, which no trial has: gradients."""
    talk = processes > 1 and torch.cuda.is_available()
    if talk:
        torch.cuda.set_per_process_memory_fraction(1 - _TALK)
    try:
        yield
    finally:
        if talk:
            torch.cuda.set_per_process_memory_fraction(1.0)


class _Enough(BaseException):
    """Ends a trial from within."""


def _fits(method: Trainable, job: Pretraining, piece: int, train: Train) -> bool:
    """Whether two steps with ``piece`` slices at a time do not run out of memory."""
    plan = plan_run(method.params, len(job.rows), batch=piece * method.params.accumulate)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trial = replace(unheard(job), folder=Path(folder), progress=_stop, devices=1)
            train(method, plan, trial)
    except _Enough:
        return True
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or is_oom_error(error):
            return False
        raise
    finally:
        gc.collect()
        torch.cuda.empty_cache()
    return True


def _stop(done: int, total: int) -> None:
    if done == _STEPS:
        raise _Enough


def unheard(job: Pretraining) -> Pretraining:
    """A job for a process that says and measures nothing."""
    return replace(job, progress=_ignore, metric=_ignore, watched={})


def _ignore(*said: object) -> None:
    pass
