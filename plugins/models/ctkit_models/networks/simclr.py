"""The network of SimCLR."""

from __future__ import annotations

from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from ctkit_models.network import Network, full_precision
from ctkit_torch.trunks import Trunk


class SimCLRNetwork(Network):
    """Trunk and projection head; the loss compares the two views of each slice with all others in the batch."""

    def __init__(self, trunk: Trunk, hidden: int, projection: int, temperature: float) -> None:
        super().__init__(trunk)
        self.head = SimCLRProjectionHead(trunk.width, hidden, projection)
        self.criterion = NTXentLoss(temperature, gather_distributed=True)

    def forward(self, views: list[Tensor]) -> Tensor:
        """NT-Xent of two views (n, channels, size, size)."""
        first, second = (self.head(self.trunk(view)) for view in views)  # (n, projection)
        with full_precision(first):
            loss: Tensor = self.criterion(first.float(), second.float())
        return loss
