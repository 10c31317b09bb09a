"""Optimisers by name, which weights decay, and the learning rate at each step."""

from __future__ import annotations

import math
from typing import Any

from torch import nn, optim

from ctkit_models.lars import LARS
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan


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
