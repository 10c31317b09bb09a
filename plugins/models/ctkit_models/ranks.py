"""Ranks: processes that train together, each on a device of its own, and how they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, Store

#: How long a process waits for another one, such as for the first to write a checkpoint.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Rank:
    """Which process of a training this is: number ``number`` of ``world`` and number ``local`` on its machine.

    ``neighbours`` is the number of processes that share the cores it may use, with itself.
    """

    number: int = 0
    world: int = 1
    local: int = 0
    neighbours: int = 1

    @property
    def gpu(self) -> int:
        """Index of the process's GPU; a cluster may show each process its own one alone."""
        return self.local % torch.cuda.device_count()


#: What a process does of a training.
Work = Callable[[Rank], object]


@contextmanager
def joined(rank: Rank, store: Store, name: str, device: str) -> Iterator[None]:
    """Be one of the processes of the training ``name``, which meet in ``store``; they share this machine's cores."""
    on_gpu = torch.device(device).type == "cuda"
    threads = torch.get_num_threads()
    if on_gpu:
        torch.cuda.set_device(rank.gpu)
    else:
        torch.set_num_threads(max(1, threads // rank.neighbours))
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=PrefixStore(name, store),
        rank=rank.number,
        world_size=rank.world,
        timeout=PATIENCE,
    )
    try:
        yield
    except BaseException:
        if on_gpu and torch.distributed.is_initialized():  # leaving in peace waits for what others may never send
            distributed_c10d._abort_process_group()
        raise
    finally:
        if torch.distributed.is_initialized():  # it was left already where another process died
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)


def meet() -> None:
    """Wait for all processes that are joined: who leaves while others still talk breaks their talk."""
    on_gpu = torch.distributed.get_backend() == "nccl"
    torch.distributed.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)


def agree(value: int) -> bool:
    """Whether all processes that are joined hold the same number."""
    values: list[int | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return len(set(values)) == 1


def mean(value: Tensor) -> Tensor:
    """Mean of a scalar over all processes that are joined. Lightning's waits for the GPU, in a barrier before it."""
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()


def any_says(own: bool, device: torch.device) -> bool:
    """Whether any of the processes that are joined says yes."""
    answer = torch.tensor(int(own), device=device)
    torch.distributed.all_reduce(answer, torch.distributed.ReduceOp.MAX)
    return bool(answer)


class JoinedRank(LightningEnvironment):
    """Tells Lightning the rank of this process, which has joined already. To Lightning it is alone on its machine."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        super().set_world_size(rank.world)
        super().set_global_rank(rank.number)

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts no processes."""
        return True

    def set_world_size(self, size: int) -> None:
        """It is known already."""

    def set_global_rank(self, rank: int) -> None:
        """It is known already."""

    def local_rank(self) -> int:
        """Number of this process's device, the only one that Lightning is given."""
        return 0

    def node_rank(self) -> int:
        """Number of the machine."""
        return 0
