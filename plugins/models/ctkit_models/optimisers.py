"""Optimisers by name, which weights decay, and the learning rate at each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim

from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan

_EPSILON = 1e-8  # of LARS's trust ratio's denominator, as in lightly


def build_optimiser(module: nn.Module, params: ContrastiveParams) -> optim.Optimizer:
    """The optimiser of ``params`` for every parameter of ``module`` that is trained; the rate is set at each step."""
    groups = parameter_groups(module, params)
    match params.optimiser:
        case "sgd":
            return optim.SGD(groups, lr=params.learning_rate, momentum=params.momentum)
        case "adam":
            return optim.Adam(groups, lr=params.learning_rate)
        case "adamw":
            return optim.AdamW(groups, lr=params.learning_rate)
        case "lars":
            return LARS(groups, lr=params.learning_rate, momentum=params.momentum, trust=params.trust)


def parameter_groups(module: nn.Module, params: ContrastiveParams) -> list[dict[str, Any]]:
    """Two groups: weights, which decay, and biases and normalisation, which do only where ``params`` says so.

    LARS gives no trust ratio to parameters without decay, as in the papers of SimCLR and BYOL.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    spared = 0.0 if params.decay == "weights" else params.weight_decay
    return [{"params": weights, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": spared}]


def learning_rate(params: ContrastiveParams, plan: Plan, step: int) -> float:
    """Rate of optimiser step number ``step`` (from 0): linear warm-up, then a half cosine to 0, or constant."""
    highest = params.learning_rate * plan.batch / (params.rate_batch or plan.batch)
    warmup = plan.part(params.warmup, epochs=10)
    if step < warmup:
        return highest * (step + 1) / warmup
    if params.schedule == "constant":
        return highest
    return highest * (1 + math.cos(math.pi * (step - warmup) / (plan.steps - warmup))) / 2


class LARS(optim.Optimizer):
    """LARS (You et al. 2017, arXiv 1708.03888) that never waits for the device.

    It is SGD with momentum whose step is, for each weight of a group with decay, in proportion to the weight's norm.
    lightly's asks the device for the norms of each weight before it goes on: 54 waits a step for a ResNet-50. The same
    arithmetic here, on all weights at once, stays on the device. Groups without decay get no trust
    ratio, as in the papers of SimCLR and BYOL.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float, trust: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "trust_coefficient": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Take one step; ``closure`` computes the loss, and with it the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            pulled = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            if pulled:
                weights, gradients = map(list, zip(*pulled, strict=True))
                changes = _changes(weights, gradients, group["weight_decay"], group["trust_coefficient"])
                changes = self._with_momentum(weights, changes, group["momentum"])
                torch._foreach_add_(weights, changes, alpha=-group["lr"])
        return loss

    def _with_momentum(self, weights: list[Tensor], changes: list[Tensor], momentum: float) -> list[Tensor]:
        if not momentum:
            return changes
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, changes)
        return buffers


def _changes(weights: list[Tensor], gradients: list[Tensor], decay: float, trust: float) -> list[Tensor]:
    """Gradients, or with decay, gradients of the decaying weights times their trust ratios."""
    if not decay:
        return gradients
    changes = torch._foreach_add(gradients, weights, alpha=decay)
    torch._foreach_mul_(changes, _ratios(weights, gradients, decay, trust))
    return list(changes)


def _ratios(weights: list[Tensor], gradients: list[Tensor], decay: float, trust: float) -> tuple[Tensor, ...]:
    """Trust ratio of each weight: 1 where the weight is all zero, and 0, for no decay, where the gradient is."""
    norm, pull = torch.stack(torch._foreach_norm(weights)), torch.stack(torch._foreach_norm(gradients))
    ratios = norm / (pull + norm * decay + _EPSILON) * trust
    return torch.where(pull == 0, 0.0, torch.where(norm == 0, 1.0, ratios)).unbind()
