"""BYOL (Grill et al. 2020, arXiv 2006.07733). Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkit_models.contrastive import MultiCrop
from ctkit_models.parameters import SHORT, BYOLParams
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk

__all__ = ["BYOL", "BYOLParams"]


class BYOL(MultiCrop[BYOLParams]):
    """A network predicts what a slowly following one sees in another view of the slice; nothing is told apart."""

    first = SHORT | {
        "steps": 300, "batch": 48, "warmup": 10, "hidden": 512, "projection": 64, "target_momentum": 0.98,
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Online network with predictor, and target network."""
        from ctkit_models.networks import BYOLNetwork

        return BYOLNetwork(trunk, self.params, plan.steps)
