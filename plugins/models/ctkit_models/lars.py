"""LARS (You et al. 2017, arXiv 1708.03888) that never waits for the device.

lightly's asks the device for the norms of each weight before it goes on: 54 waits a step for a ResNet-50. The same
arithmetic here, on all weights at once, stays on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_EPSILON = 1e-8  # of the trust ratio's denominator, as in lightly


class LARS(Optimizer):
    """SGD with momentum whose step is, for each weight of a group with decay, in proportion to the weight's norm.

    Groups without decay get no trust ratio, as in the papers of SimCLR and BYOL.
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
