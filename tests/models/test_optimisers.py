from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightly.utils import lars
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from ctkit_models.optimisers import LARS, build_optimiser, learning_rate
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import plan_run


def test_the_rate_warms_up_and_falls_as_torchs_schedulers_do() -> None:
    params = ContrastiveParams(steps=40, warmup=8, learning_rate=0.5)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    warm = LinearLR(optimiser, start_factor=1 / 8, total_iters=7)
    fall = CosineAnnealingLR(optimiser, T_max=32)
    schedule = SequentialLR(optimiser, [warm, fall], milestones=[8])
    plan = plan_run(params, 1000)
    for step in range(40):
        assert learning_rate(params, plan, step) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_no_step_of_the_shortest_run_has_a_rate_of_nought(steps: int) -> None:
    params = ContrastiveParams(steps=steps)
    assert all(learning_rate(params, plan_run(params, 1000), step) > 0 for step in range(steps))


def test_a_constant_rate_stays_and_is_scaled_by_the_batch_there_is() -> None:
    params = ContrastiveParams(steps=10, schedule="constant", learning_rate=0.3, rate_batch=256)
    assert learning_rate(params, plan_run(params, 1000), 9) == pytest.approx(0.3 * 128 / 256)
    assert learning_rate(params, plan_run(params, 64), 9) == pytest.approx(0.3 * 64 / 256)


def network() -> nn.Module:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 2))
    module[4].requires_grad_(False)
    return module


@pytest.mark.parametrize(("decay", "of_others"), [("weights", 0.0), ("all", 0.1)])
def test_biases_and_normalisation_decay_only_where_asked(decay: str, of_others: float) -> None:
    module = network()
    params = ContrastiveParams.model_validate({"decay": decay, "weight_decay": 0.1, "optimiser": "sgd"})
    weights, others = build_optimiser(module, params).param_groups
    assert {id(p) for p in weights["params"]} == {id(module[0].weight), id(module[3].weight)}
    assert len(others["params"]) == 4, "two biases, and weight and bias of the normalisation; nothing that is frozen"
    assert (weights["weight_decay"], others["weight_decay"]) == (0.1, of_others)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_each_optimiser_is_the_one_it_is_called(name: str) -> None:
    optimiser = build_optimiser(network(), ContrastiveParams.model_validate({"optimiser": name}))
    assert type(optimiser).__name__.lower() == name


def test_lars_scales_a_step_to_the_weights_norm() -> None:
    module = nn.Linear(3, 3, bias=False)
    params = ContrastiveParams(optimiser="lars", momentum=0.0, weight_decay=0.01, trust=0.02)
    optimiser = build_optimiser(module, params)
    optimiser.param_groups[0]["lr"] = 0.5
    before, gradient = module.weight.detach().clone(), torch.rand(3, 3)
    module.weight.grad = gradient.clone()
    optimiser.step()
    local = 0.02 * before.norm() / (gradient.norm() + 0.01 * before.norm())  # You et al. 2017, equation 6
    torch.testing.assert_close(module.weight.detach(), before - 0.5 * local * (gradient + 0.01 * before))


@given(
    decay=st.sampled_from([0.0, 1e-6, 0.1]),
    momentum=st.sampled_from([0.0, 0.9]),
    scales=st.lists(st.tuples(*[st.sampled_from([0.0, 1e-20, 1.0, 1e4])] * 2), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
)
def test_lars_takes_the_steps_of_lightlys(
    decay: float, momentum: float, scales: list[tuple[float, float]], seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    ours = [nn.Parameter(weight * torch.randn(3, 2, generator=rng)) for weight, _ in scales]
    without_gradient = nn.Parameter(torch.ones(2))
    theirs = deepcopy(ours)
    groups = [{"params": [*ours, without_gradient], "weight_decay": decay}]
    one = LARS(groups, lr=0.3, momentum=momentum, trust=0.01)
    other = lars.LARS(theirs, lr=0.3, momentum=momentum, weight_decay=decay, trust_coefficient=0.01)
    for _ in range(3):
        for weight, same, (_, scale) in zip(ours, theirs, scales, strict=True):
            weight.grad = scale * torch.randn(3, 2, generator=rng)
            same.grad = weight.grad.clone()
        one.step()
        other.step()
    for weight, same in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, same, rtol=0, atol=0)
    assert torch.equal(without_gradient, torch.ones(2))
