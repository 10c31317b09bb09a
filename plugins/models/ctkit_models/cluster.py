"""Training on several nodes: ``srun python -m ctkit_models.cluster run FILE`` in place of ``ctkit run FILE``.

A cluster's launcher, Slurm or torchrun, starts one process for each device. The first rank runs the command; the others
wait for trainings to take part in. Lightning knows how each launcher says who is who.
"""

from __future__ import annotations

import itertools
import os
import pickle
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta

import cloudpickle  # type: ignore[import-untyped]  # ships no types
import loky
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import DistStoreError
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from ctkit.errors import CtkitError, RequestError, TrainingError
from ctkit_models.ranks import PATIENCE, Rank, Work, joined

_GOODBYE = timedelta(minutes=1)
_OVER = ""

_first: ContextVar[FirstRank | None] = ContextVar("first rank", default=None)


class FirstRank:
    """The first process of a cluster, which tells the others what to do."""

    def __init__(self, rank: Rank, store: Store) -> None:
        self.rank = rank
        self._store = store
        self._trainings = itertools.count()
        self._apart = False  # a training failed in this process alone, or another one died or does not answer

    @contextmanager
    def launch(self, work: Work, device: str) -> Iterator[Rank]:
        """Be the first of all processes that do ``work``; the block is this process's own part in it.

        Raises ``TrainingError`` at once after a training that the others did not follow to its end.
        """
        if self._apart:
            raise TrainingError("not started, as the processes lost each other before; the same command resumes")
        name = _name(next(self._trainings))
        self._store.set(name, cloudpickle.dumps((work, device)))
        try:
            with joined(self.rank, self._store, name, device):
                yield self.rank
        except Exception as error:
            self._apart = not isinstance(error, CtkitError)
            raise

    def dismiss(self) -> None:
        """Let the others go, and wait until they have heard it."""
        self._store.set(_name(next(self._trainings)), _OVER)
        with suppress(DistStoreError):
            self._store.wait([f"gone-{number}" for number in range(1, self.rank.world) if not self._apart], _GOODBYE)


def first_rank() -> FirstRank | None:
    """What this process is to a cluster; None where it was started by itself."""
    return _first.get()


def main(arguments: list[str]) -> None:
    """Run ctkit with ``arguments`` in the first process, and take part in its trainings in the others."""
    try:
        _refuse_jobs(arguments)
        rank = _rank(_environment())
    except RequestError as error:
        sys.stderr.write(f"ctkit: {error}\n")
        sys.exit(error.exit_code)
    store, _, _ = next(rendezvous("env://", rank.number, rank.world, timeout=PATIENCE))
    if rank.number:
        _leave_signals_to_the_first()
        _follow(rank, store)
        sys.exit(0)
    from ctkit import main as ctkit

    first = FirstRank(rank, store)
    _first.set(first)
    try:
        ctkit(arguments)
    finally:
        first.dismiss()


def _refuse_jobs(arguments: list[str]) -> None:
    if any(re.match("--jobs|-[a-z]*j", word) for word in arguments):
        raise RequestError("--jobs gives each training its own devices, but here all processes share each training")


def _environment() -> ClusterEnvironment:
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            return kind()
    raise RequestError("found no launcher that starts a process for each device; start this with srun or torchrun")


def _rank(environment: ClusterEnvironment) -> Rank:
    """The place that a launcher gave this process; puts into the environment where processes meet."""
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)
    world = environment.world_size()
    return Rank(environment.global_rank(), world, environment.local_rank(), _neighbours(world))


def _neighbours(world: int) -> int:
    """Number of processes that share this one's cores: those of the machine, unless Slurm bound each to its own."""
    of_torchrun = os.environ.get("LOCAL_WORLD_SIZE")
    if of_torchrun:
        return int(of_torchrun)
    machine = int(os.environ.get("SLURM_NTASKS_PER_NODE") or world)
    own = int(os.environ.get("SLURM_CPUS_PER_TASK", 1))
    return 1 if loky.cpu_count() < machine * own else machine


def _leave_signals_to_the_first() -> None:
    """Launchers send signals to all processes; the first decides what they mean, and the others hear it in a step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _follow(rank: Rank, store: Store) -> None:
    """Take part in one training after the other, until there is no more."""
    for number in itertools.count():
        order = _await(store, _name(number))
        if order == _OVER.encode():
            store.set(f"gone-{rank.number}", _OVER)
            return
        work, device = pickle.loads(order)  # noqa: S301  # from the first process of the same job
        with suppress(CtkitError), joined(rank, store, _name(number), device):  # the first process meets it too
            work(rank)


def _await(store: Store, name: str) -> bytes:
    """What the first process tells; it may be busy with other stages for days."""
    while True:
        with suppress(DistStoreError):
            store.wait([name], PATIENCE)
            return bytes(store.get(name))


def _name(number: int) -> str:
    return f"training-{number}"


if __name__ == "__main__":
    from ctkit_models import cluster  # the module by its name, which the engine asks for the first rank

    cluster.main(sys.argv[1:])
