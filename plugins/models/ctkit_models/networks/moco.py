"""The network of MoCo v2."""

from __future__ import annotations

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.models.utils import update_momentum
from torch import Tensor, nn

from ctkit_models.network import Network, full_precision
from ctkit_models.networks.momentum import momentum_copy
from ctkit_torch.trunks import Trunk


class MoCoNetwork(Network):
    """A query network, a key network that follows it, and a queue of the keys of earlier batches."""

    def __init__(
        self, trunk: Trunk, *, projection: int, linear: bool, temperature: float, key_momentum: float, queue: int
    ) -> None:
        super().__init__(trunk)
        self.head = _head(trunk.width, projection, linear=linear)
        self.key_trunk, self.key_head = momentum_copy(trunk), momentum_copy(self.head)
        self.key_momentum = key_momentum
        self.criterion = NTXentLoss(temperature, memory_bank_size=(queue, projection), gather_distributed=True)
        bank = self.criterion.memory_bank
        bank.register_buffer("bank", bank.bank)  # lightly keeps the queue out of state_dict
        bank.register_buffer("bank_ptr", bank.bank_ptr)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Cross-entropy of finding each first view's key among the queue; views are (n, channels, size, size)."""
        query = self.head(self.trunk(views[0]))  # (n, projection)
        with torch.no_grad():
            key = self.key_head(self.key_trunk(views[1]))
        with full_precision(query):
            loss: Tensor = self.criterion(query.float(), key.float())
        return loss

    def after_step(self, step: int) -> None:
        """Let the key network follow."""
        update_momentum(self.trunk, self.key_trunk, self.key_momentum)
        update_momentum(self.head, self.key_head, self.key_momentum)


def _head(width: int, projection: int, *, linear: bool) -> nn.Module:
    if linear:
        return nn.Linear(width, projection)
    head: nn.Module = MoCoProjectionHead(width, width, projection)  # as wide as the trunk, in the paper 2048
    return head
