"""SwAV (Caron et al. 2020, arXiv 2006.09882), the CT paper's main method. Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkit_models.contrastive import MultiCrop
from ctkit_models.parameters import SHORT, SwAVParams
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk

__all__ = ["SwAV", "SwAVParams"]


class SwAV(MultiCrop[SwAVParams]):
    """Each view predicts to which prototypes the other views of its slice are assigned, evenly over the batch."""

    first = SHORT | {
        "steps": 240, "batch": 48, "local_views": 0, "hidden": 512, "projection": 64, "frozen": 0,
        "prototypes": 15,  # a batch has three slices for each
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Trunk, projection head and prototypes under lightly's SwAV loss."""
        from ctkit_models.networks import SwAVNetwork

        return SwAVNetwork(trunk, self.params, plan.part(self.params.frozen, epochs=1))
