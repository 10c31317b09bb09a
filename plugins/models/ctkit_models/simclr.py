"""SimCLR (Chen et al. 2020, arXiv 2002.05709). Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkit_models.contrastive import Contrastive
from ctkit_models.parameters import SHORT, ContrastiveParams, Hidden, Projection, RateBatch, Temperature
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk


class SimCLRParams(ContrastiveParams):
    """Settings of SimCLR: optimiser of its paper, views of the CT paper's MoCo v2."""

    rate_batch: RateBatch = 256
    temperature: Temperature = 0.1
    hidden: Hidden = 2048
    projection: Projection = 128


class SimCLR(Contrastive[SimCLRParams]):
    """Two views of a slice are told from all other views in the batch (NT-Xent)."""

    first = SHORT | {
        "steps": 120, "batch": 64, "rate_batch": 64, "scale": (0.3, 1.0), "rotation_p": 0.5, "blur_p": 0.5,
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Trunk and projection head under lightly's NT-Xent loss."""
        from ctkit_models.networks import SimCLRNetwork

        return SimCLRNetwork(trunk, self.params.hidden, self.params.projection, self.params.temperature)
