"""The processes that do a training: this one alone, others of our own with it, or all that a cluster started.

Those of our own are for the other devices of this machine; the process that asks for them is the first rank. They end
with that one, however it ends. When one of them dies or is stopped, the others do not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import torch
from torch.distributed import TCPStore, distributed_c10d  # type: ignore[attr-defined]  # torch exports it no other way

from ctkit.contracts import ChildProcess, Pretraining, StartChild
from ctkit.errors import TrainingError
from ctkit_models.cluster import first_rank
from ctkit_models.imports import Importing
from ctkit_models.ranks import PATIENCE, Rank, Work, joined, meet

_HOST, _NAME = "127.0.0.1", "training"
_START = 300.0  #: seconds that a process may take to import what the work needs
_BLAME = 10.0  #: seconds in which a process whose end made this one fail is known to be gone
_END = 60.0  #: seconds that processes may take to end after the work is done


def world_size(job: Pretraining) -> int:
    """Number of processes that share the training."""
    first = first_rank()
    return job.devices if first is None else first.rank.world


@contextmanager
def process_group(job: Pretraining, work: Work) -> Iterator[Rank]:
    """Have the other processes do ``work`` during the block, which is this process's own part."""
    first = first_rank()
    if first is not None:
        with first.launch(work, job.device) as rank:
            yield rank
    elif job.devices > 1:
        with launch(job.devices, work, job.device, job.start_child) as rank:
            yield rank
    else:
        yield Rank()


def group_notes(job: Pretraining) -> tuple[str, ...]:
    """What the user must know of a training that processes shared."""
    world = world_size(job)
    if world == 1:
        return ()
    own = "; on the CPU, batch normalisation uses only the part of each process" if job.device == "cpu" else ""
    return (f"{world} processes shared the training{own}",)


@contextmanager
def launch(world: int, work: Work, device: str, start_child: StartChild) -> Iterator[Rank]:
    """Be the first of ``world`` ranks, whose others do ``work``; the block is this one's own part in it.

    ``work`` is pickled. Raises ``TrainingError`` where another process fails.
    """
    store = TCPStore(_HOST, 0, is_master=True, timeout=PATIENCE, wait_for_workers=False)
    do = Importing(_take_part, work, device, store.port)
    threads = 1 if torch.device(device).type == "cuda" else torch.get_num_threads()  # ``joined`` shares out the CPU's
    first, *rest = (Rank(number, world, number, world) for number in range(world))
    others = [start_child(f"process {rank.number + 1} of {world}", do, rank, threads) for rank in rest]
    try:
        for other in others:
            if not other.is_ready(_START):
                raise TrainingError(other.failure() or f"{other.name} did not start within {_START:g} s")
        with joined(first, store, _NAME, device), _watching(others, device):
            yield first
            meet()
        for other in others:
            other.join(_END)
    finally:
        for other in others:
            other.kill()


@contextmanager
def _watching(others: list[ChildProcess], device: str) -> Iterator[None]:
    """Ask about the others all the time, which ends one that is stopped; say so where the block fails by its death.

    Where it fails, the others are ended before this process leaves them: they might wait for it.
    """
    over = Event()
    Thread(target=_watch, args=(others, over, torch.device(device).type == "cuda"), daemon=True).start()
    try:
        yield
    except BaseException as error:
        by_talk = isinstance(error, RuntimeError | ValueError)  # the latter of a group that was left
        failure = _failure(others) if by_talk and not isinstance(error, torch.OutOfMemoryError) else None
        for other in others:
            other.kill()
        if failure:
            raise TrainingError(f"{failure}; the same command resumes from the last checkpoint") from error
        raise
    finally:
        over.set()


def _failure(others: list[ChildProcess]) -> str | None:
    """Why one of the others died, once that is known; None where none did."""
    until = time.monotonic() + _BLAME
    while not any(other.died for other in others) and time.monotonic() < until:
        time.sleep(0.05)
    return next((other.failure() for other in others if other.died), None)


def _watch(others: list[ChildProcess], over: Event, on_gpu: bool) -> None:
    """Leave the group when one of the processes dies: NCCL would wait for it to the end; gloo notices by itself."""
    while not over.wait(1.0):
        if any(other.died for other in others):
            if on_gpu:
                distributed_c10d._abort_process_group()
            return


# --- in the other processes ---------------------------------------------------------------------------------------


def _take_part(work: Work, device: str, port: int, rank: Rank) -> None:
    store = TCPStore(_HOST, port, is_master=False, timeout=PATIENCE)
    with joined(rank, store, _NAME, device):
        work(rank)
        meet()
