"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230), on ctkit's engine. Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ctkit_models import Contrastive, ContrastiveParams

if TYPE_CHECKING:
    from ctkit_models import Network, Plan, Trunk


class BarlowTwinsParams(ContrastiveParams):
    """Settings of Barlow Twins, as in its paper; views, optimiser and length are those of every method."""

    learning_rate: float = Field(0.2, gt=0, description="highest learning rate, for a batch of rate_batch")
    rate_batch: int | None = Field(256, ge=1, description="batch the learning rate is meant for")
    weight_decay: float = Field(1.5e-6, ge=0, description="weight decay")
    width: int = Field(8192, ge=2, description="width of the projection head's layers")
    redundancy: float = Field(5e-3, gt=0, description="weight of the correlations between different features")


class BarlowTwins(Contrastive[BarlowTwinsParams]):
    """Each feature of a view correlates with itself in the other view of the slice, and with no other feature."""

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """What is trained; everything else is the engine's."""
        from ctkit_barlow_twins.network import BarlowTwinsNetwork

        return BarlowTwinsNetwork(trunk, self.params.width, self.params.redundancy)
