"""What Barlow Twins trains: a trunk, a projection head and their loss."""

from __future__ import annotations

from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from torch import Tensor

from ctkit_models import Network, Trunk, full_precision


class BarlowTwinsNetwork(Network):
    """Trunk and projection head; the loss wants the correlation matrix of two views to be the identity."""

    def __init__(self, trunk: Trunk, width: int, redundancy: float) -> None:
        super().__init__(trunk)
        self.head = BarlowTwinsProjectionHead(trunk.width, width, width)
        self.criterion = BarlowTwinsLoss(redundancy, gather_distributed=True)

    def forward(self, views: list[Tensor]) -> Tensor:
        """The loss of two views (n, channels, size, size)."""
        first, second = (self.head(self.trunk(view)) for view in views)  # (n, width)
        with full_precision(first):
            loss: Tensor = self.criterion(first.float(), second.float())
        return loss
