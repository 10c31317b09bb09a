"""What a contrastive method trains."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

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
