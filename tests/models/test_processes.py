"""Trainings that several processes share. The other processes are real ones; they get this module by value."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn

from ctkit.compute import start_child
from ctkit.contracts import Pretraining
from ctkit.errors import DataError, RequestError, TrainingError
from ctkit_models import Contrastive, Network, Plan, Trunk
from ctkit_models.byol import BYOL
from ctkit_models.engine import train
from ctkit_models.moco import MoCo
from ctkit_models.plan import plan_run
from ctkit_models.processes import launch
from ctkit_models.ranks import Rank, joined
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_models.swav import SwAV

cloudpickle.register_pickle_by_value(sys.modules[__name__])

Make = Callable[..., Any]
TINY = {"backbone": "resnet18", "size": 32, "steps": 5, "batch": 8, "checkpoint_minutes": 0, "precision": "fp32"}
SETTINGS: dict[type[Contrastive[Any]], dict[str, Any]] = {
    SimCLR: {"hidden": 32, "projection": 16, "learning_rate": 3.0},
    MoCo: {"queue": 16, "projection": 16, "learning_rate": 0.3, "key_momentum": 0.5},
    SwAV: {"hidden": 32, "projection": 16, "prototypes": 6, "local_views": 1, "local_size": 16, "learning_rate": 3.0},
    BYOL: {"hidden": 32, "projection": 16, "target_momentum": 0.5, "learning_rate": 1e-3},
}


def without_batch_statistics(module: nn.Module) -> nn.Module:
    """The module with layer normalisation in place of batch normalisation, which processes on the CPU cannot share."""
    for name, child in module.named_modules():
        if isinstance(child, nn.BatchNorm1d):
            trained = child.weight.requires_grad
            module.set_submodule(name, nn.LayerNorm(child.num_features).requires_grad_(trained))
    return module


def small(kind: type[Contrastive[Any]]) -> Contrastive[Any]:
    """The method on two convolutions, without batch statistics anywhere."""

    class Small(kind):  # type: ignore[misc, valid-type]  # any of the four
        def network(self, trunk: Trunk, plan: Plan) -> Network:
            torch.manual_seed(5)
            layers = (
                *(nn.Conv2d(1, 16, 5, stride=2), nn.GroupNorm(4, 16), nn.ReLU()),
                *(nn.Conv2d(16, 32, 3, stride=2), nn.GroupNorm(4, 32), nn.ReLU()),
                *(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            )
            network = super().network(Trunk(nn.Sequential(*layers), trunk.architecture, 128), plan)
            return without_batch_statistics(network)

    return Small(kind.params_type.model_validate({**TINY, **SETTINGS[kind]}))


def train_all(job: Pretraining, rank: Rank) -> None:
    """Train the four methods one after the other, and keep what this process has in the end."""
    for kind in SETTINGS:
        method, folder = small(kind), job.folder / kind.__name__
        folder.mkdir(exist_ok=True)
        training = train(method, plan_run(method.params, len(job.rows), rank.world), replace(job, folder=folder), rank)
        torch.save(
            {
                "state": training.network.state_dict(),
                "history": training.done.history,
                "plots": "matplotlib" in sys.modules,
            },
            folder / f"rank-{rank.number}-of-{rank.world}.pt",
        )


def result(job: Pretraining, kind: type[Any], rank: int, world: int) -> Any:
    return torch.load(job.folder / kind.__name__ / f"rank-{rank}-of-{world}.pt", weights_only=True)


def ignore(*said: object) -> None:
    """What the other processes say."""


def test_two_processes_train_as_one_with_the_same_batch_or_go_on_for_one(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows = make_rows()
    alone = replace(make_job(rows, "alone"), progress=ignore, metric=ignore)
    shared = replace(make_job(rows, "shared"), progress=ignore, metric=ignore)
    with pytest.raises(RuntimeError, match="killed"):
        small(BYOL).pretrain(make_job(rows, "killed", make_watcher(2)))
    (shared.folder.parent / "killed").rename(shared.folder / "BYOL")
    train_all(alone, Rank())
    with launch(2, partial(train_all, shared), "cpu", start_child) as rank:
        train_all(shared, rank)
    for kind in SETTINGS:
        one = result(alone, kind, 0, 1)
        first, second = (result(shared, kind, rank, 2) for rank in (0, 1))
        expected, got = ([value for _, name, value in found["history"] if name == "loss"] for found in (one, first))
        np.testing.assert_allclose(got, expected, rtol=2e-5, err_msg=kind.__name__)
        assert len(set(expected)) == 5, "the losses change from step to step"
        assert not second["plots"], "the other processes need no matplotlib"
        noted = [step for step, name, _ in second["history"] if name == "loss"]
        assert noted == ([1, 2] if kind is BYOL else []), "only the first process notes what it does"
        for name, value in first["state"].items():
            torch.testing.assert_close(second["state"][name], value, rtol=0, atol=0, msg=f"{kind.__name__} {name}")
            torch.testing.assert_close(value, one["state"][name], rtol=1e-3, atol=1e-5, msg=f"{kind.__name__} {name}")


@pytest.mark.slow
def test_two_processes_go_on_from_the_checkpoint_of_one(make_rows: Make, make_job: Make, make_watcher: Make) -> None:
    rows, method = make_rows(), small(MoCo)
    undisturbed = method.pretrain(make_job(rows, "undisturbed"))
    with pytest.raises(RuntimeError, match="killed"):
        method.pretrain(make_job(rows, "killed", make_watcher(2)))
    watcher = make_watcher()
    resumed = method.pretrain(replace(make_job(rows, "killed", watcher), devices=2))
    assert watcher.steps == [(3, 5), (4, 5), (5, 5)]
    losses, expected = ([value for _, name, value in done.history if name == "loss"] for done in (resumed, undisturbed))
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    assert [note for note in resumed.notes if note.startswith("2 processes shared the training")]
    left = {path.name for path in resumed.backbone.parent.iterdir()}
    assert {"backbone.safetensors", "step-0000000005.ckpt"} <= left, "checkpoints stay until the backbone is published"
    assert not [name for name in left if name.endswith(".part")]


class RisingNetwork(Network):
    """Its loss rises from step to step, but in the first process from less to more."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        self.step = 0

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        self.step += 1
        return 1e-3 * self.trunk(views[0]).mean() + self.step * (1.5 if torch.distributed.get_rank() else 0.5)


class Rising(SimCLR):
    def network(self, trunk: Trunk, plan: Plan) -> Network:
        return RisingNetwork(Trunk(nn.Sequential(nn.Conv2d(1, 4, 9, stride=8), nn.Flatten()), trunk.architecture, 64))


@pytest.mark.slow
def test_two_processes_end_early_at_the_same_step(make_rows: Make, make_job: Make) -> None:
    early = {"steps": 50, "patience": 2, "keep": "best", "warmup": 0}
    method = Rising(Rising.params_type.model_validate({**TINY, **early}))
    done = method.pretrain(replace(make_job(make_rows()), devices=2))
    assert done.steps == 3
    assert [round(value) for _, name, value in done.history if name == "mean-loss"] == [1, 2, 3], "of both processes"
    assert done.notes[-1] == "the backbone is that of step 1 of 3, where the mean loss was lowest"


def dying(sent: signal.Signals) -> SimCLR:
    """A method whose second process gets a signal after its second step."""

    class DyingNetwork(Network):
        def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
            return (self.trunk(views[0]) - self.trunk(views[1])).pow(2).mean()

        def after_step(self, step: int) -> None:
            if torch.distributed.get_rank() == 1 and step == 1:
                os.kill(os.getpid(), sent)

    class Dying(SimCLR):
        def network(self, trunk: Trunk, plan: Plan) -> Network:
            return DyingNetwork(Trunk(nn.Sequential(nn.Conv2d(1, 4, 9, stride=8), nn.Flatten()), trunk.architecture, 4))

    return Dying(Dying.params_type.model_validate(TINY))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("SIGKILL", r"died \(SIGKILL, as when memory runs out\)"),
        ("SIGSTOP", "was stopped, or waited for a disk, for 1 s"),
    ],
)
def test_a_process_that_dies_or_is_stopped_ends_the_training_with_an_error_that_says_so(
    sent: str, reason: str, make_rows: Make, make_job: Make
) -> None:
    job = replace(make_job(make_rows()), devices=2, start_child=partial(start_child, limit=1.0))
    with pytest.raises(TrainingError, match=f"process 2 of 2 {reason}; the same command"):
        dying(signal.Signals[sent]).pretrain(job)


def fail_in_others(rank: Rank) -> None:
    raise DataError("a shard is damaged")


@pytest.mark.slow
def test_what_another_process_fails_with_is_said(tmp_path: Path) -> None:
    others = launch(2, fail_in_others, "cpu", start_child)
    with pytest.raises(TrainingError, match="process 2 of 2: a shard is damaged"), others:
        torch.distributed.barrier()


def test_a_job_that_starts_no_children_is_refused_on_several_devices(make_rows: Make, make_job: Make) -> None:
    method = SimCLR(SimCLRParams(**TINY))
    with pytest.raises(RequestError, match="process 2 of 2 cannot be started, because the job has no start_child"):
        method.pretrain(replace(make_job(make_rows()), devices=2, start_child=Pretraining.start_child))


def test_leaving_a_group_that_was_left_hides_no_error() -> None:
    with pytest.raises(ValueError, match="what went wrong"), joined(Rank(), torch.distributed.HashStore(), "t", "cpu"):
        torch.distributed.destroy_process_group()
        raise ValueError("what went wrong")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one_with_the_batch_statistics_of_both(make_rows: Make, make_job: Make) -> None:
    rows, method = make_rows(), SimCLR(SimCLRParams(**{**TINY, "learning_rate": 0.1}))
    jobs = [replace(make_job(rows, f"{devices}"), device="cuda", devices=devices) for devices in (1, 2)]
    one, two = ([value for _, name, value in method.pretrain(job).history if name == "loss"] for job in jobs)
    np.testing.assert_allclose(two, one, rtol=1e-2)  # convolutions may run in TF32
