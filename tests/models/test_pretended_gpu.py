"""Steps of each method on a GPU that is only pretended: torch works out devices and shapes, and computes nothing.

That is enough to find tensors of two devices in one operation, and waits of the host for the device. The gradients are
made up, as torch's backward pass needs a device that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from ctkit.contracts import Pretraining, Rows
from ctkit_models.byol import BYOL, BYOLParams
from ctkit_models.engine import Training
from ctkit_models.moco import MoCo, MoCoParams
from ctkit_models.plan import plan_run
from ctkit_models.ranks import Rank
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_models.swav import SwAV, SwAVParams

if not hasattr(fake_tensor, "FakeTensorDeviceMismatchError"):
    pytest.skip("this torch asks for a GPU even where one is pretended", allow_module_level=True)

SHORT: dict[str, Any] = {"backbone": "resnet18", "size": 32, "batch": 8, "steps": 1000, "keep": "best", "warmup": 0}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    own = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device: own("cpu"))  # one of a GPU needs the GPU
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield FakeTensorMode()
    torch.__future__.set_overwrite_module_params_on_conversion(False)


class Likeness(nn.Module):
    """In the place of lightly's NT-Xent, which waits once a step: in a mask, and at the queue's end."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return (one * other).sum()


def moved(training: Training, mode: FakeTensorMode) -> None:
    if isinstance(training.network.criterion, NTXentLoss):
        training.network.criterion = Likeness()
    training.network._apply(lambda tensor: torch.empty_like(mode.from_tensor(tensor), device="cuda"))


def take_steps(training: Training, number: int) -> None:
    """As Lightning and the engine do, but for the backward pass."""
    optimiser = training.configure_optimizers()
    slices = torch.empty(8, 48, 40, dtype=torch.uint8, device="cuda")
    for step in range(number):
        loss = training.training_step(slices, 0)
        for weight in training.network.parameters():
            weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        training.network.after_backward(step)
        optimiser.step()
        training.network.after_step(step)
        training._bad_loss.see(loss.detach(), step + 1)
        training.stretches.see(loss.detach(), step + 1, training.network.trunk)


@pytest.mark.parametrize(
    ("make", "params", "optimiser"),
    [
        (SimCLR, SimCLRParams, "lars"),
        (MoCo, MoCoParams, "sgd"),
        (SwAV, SwAVParams, "adamw"),
        (BYOL, BYOLParams, "adam"),
    ],
)
def test_steps_mix_no_devices_and_wait_for_nothing(
    make: Any,
    params: Any,
    optimiser: str,
    gpu: FakeTensorMode,
    make_job: Callable[..., Pretraining],
    make_rows: Callable[..., Rows],
) -> None:
    made = make(params(**SHORT, optimiser=optimiser))
    job = replace(make_job(make_rows()), device="cuda")
    training = Training(made, plan_run(made.params, 24), job, Rank())
    with gpu:
        moved(training, gpu)
        take_steps(training, 2)
        assert {weight.device.type for weight in training.network.parameters()} == {"cuda"}
        assert next(training.network.trunk.parameters()).is_contiguous(memory_format=torch.channels_last)


def test_a_wait_and_a_mix_are_found_on_the_pretended_gpu(gpu: FakeTensorMode) -> None:
    with gpu:
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(fake_tensor.FakeTensorDeviceMismatchError):
            there + here
