"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): a whole pre-training method on ctkit's engine."""

from __future__ import annotations

from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from pydantic import Field
from torch import Tensor

from ctkit_models import Contrastive, ContrastiveParams, Network, Plan, Trunk, full_precision


class BarlowTwinsParams(ContrastiveParams):
    """Settings of Barlow Twins, as in its paper; views, optimiser and length are those of every method."""

    learning_rate: float = Field(0.2, gt=0, description="highest learning rate, for a batch of rate_batch")
    rate_batch: int | None = Field(256, ge=1, description="batch the learning rate is meant for")
    weight_decay: float = Field(1.5e-6, ge=0, description="weight decay")
    width: int = Field(8192, ge=2, description="width of the projection head's layers")
    redundancy: float = Field(5e-3, gt=0, description="weight of the correlations between different features")


class BarlowTwinsNetwork(Network):
    """Trunk and projection head; the loss wants the correlation matrix of two views to be the identity."""

    def __init__(self, trunk: Trunk, params: BarlowTwinsParams) -> None:
        super().__init__(trunk)
        self.head = BarlowTwinsProjectionHead(trunk.width, params.width, params.width)
        self.criterion = BarlowTwinsLoss(params.redundancy, gather_distributed=True)

    def forward(self, views: list[Tensor]) -> Tensor:
        """The loss of two views (n, channels, size, size)."""
        first, second = (self.head(self.trunk(view)) for view in views)  # (n, width)
        with full_precision(first):
            loss: Tensor = self.criterion(first.float(), second.float())
        return loss


class BarlowTwins(Contrastive[BarlowTwinsParams]):
    """Each feature of a view correlates with itself in the other view of the slice, and with no other feature."""

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """What is trained; everything else is the engine's."""
        return BarlowTwinsNetwork(trunk, self.params)
