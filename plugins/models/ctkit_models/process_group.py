"""The processes that do a training: this one alone, others of our own with it, or all that a cluster started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ctkit.contracts import Pretraining
from ctkit_models.cluster import leader
from ctkit_models.processes import among
from ctkit_models.ranks import Rank, Work


def world_size(job: Pretraining) -> int:
    """Number of processes that share the training."""
    first = leader()
    return job.devices if first is None else first.rank.world


@contextmanager
def process_group(job: Pretraining, work: Work) -> Iterator[Rank]:
    """Have the other processes do ``work`` during the block, which is this process's own part."""
    first = leader()
    if first is not None:
        with first.among(work, job.device) as rank:
            yield rank
    elif job.devices > 1:
        with among(job.devices, work, job.device, job.start_child) as rank:
            yield rank
    else:
        yield Rank()


def group_notes(job: Pretraining) -> tuple[str, ...]:
    """What the user must know of a training that processes shared."""
    world = world_size(job)
    if world == 1:
        return ()
    own = "; on the CPU, batch normalisation sees each one's part of the batch alone" if job.device == "cpu" else ""
    return (f"{world} processes shared the training{own}",)
