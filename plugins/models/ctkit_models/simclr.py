"""SimCLR (Chen et al. 2020, arXiv 2002.05709). Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkit_models.contrastive import Contrastive
from ctkit_models.parameters import SHORT, SimCLRParams
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk

__all__ = ["SimCLR", "SimCLRParams"]


class SimCLR(Contrastive[SimCLRParams]):
    """Two views of a slice are told from all other views in the batch (NT-Xent)."""

    first = SHORT | {
        "steps": 120, "batch": 64, "rate_batch": 64, "scale": (0.3, 1.0), "rotation_p": 0.5, "blur_p": 0.5,
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Trunk and projection head under lightly's NT-Xent loss."""
        from ctkit_models.networks import SimCLRNetwork

        return SimCLRNetwork(trunk, self.params)
