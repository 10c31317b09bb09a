"""What a contrastive method trains, and what the engine asks of the method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan
from ctkit_models.views import Normalise, View
from ctkit_torch.trunks import Trunk


def full_precision(outputs: Tensor) -> torch.autocast:
    """Context for a loss on ``outputs``: softmax and logarithm lose too much in the 8 bits of bf16."""
    return torch.autocast(outputs.device.type, enabled=False)


class Network(nn.Module, ABC):
    """A module built on a trunk that turns views into a loss. All its state is in ``state_dict()``."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    @abstractmethod
    def forward(self, views: list[Tensor]) -> Tensor:
        """The loss, a scalar, of the views of a batch: each (n, channels, size, size), row i of all of slice i."""

    def after_backward(self, step: int) -> None:
        """Change gradients before optimiser step number ``step`` (from 0)."""

    def after_step(self, step: int) -> None:
        """Change weights after optimiser step number ``step`` (from 0): momentum copies, normalised prototypes."""


class Trainable(Protocol):
    """What the engine asks of a method that it trains; ``Contrastive`` has it."""

    @property
    def params(self) -> ContrastiveParams:
        """What the user chose."""

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """The module that is trained."""

    def views(self, normalise: Normalise) -> Sequence[View]:
        """The views of each slice."""

    def unsettled(self, plan: Plan) -> int:
        """First steps whose losses say nothing of the network."""

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """What the user must know of how the parameters were fitted to the arm."""
