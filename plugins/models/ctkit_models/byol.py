"""BYOL (Grill et al. 2020, arXiv 2006.07733). Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ctkit_models import parameters
from ctkit_models.contrastive import MultiCrop
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk


class BYOLParams(parameters.MultiCropParams):
    """Settings of BYOL, as the CT paper trained it, with the views of its MoCo v2."""

    batch: parameters.Batch = 64
    epochs: parameters.Epochs = 1000
    optimiser: parameters.Optimiser = "adam"
    learning_rate: parameters.LearningRate = 1e-3
    weight_decay: parameters.WeightDecay = 1.5e-6
    hidden: parameters.Hidden = 4096
    projection: parameters.Projection = 256
    target_momentum: float = Field(
        0.996, ge=0, le=1, description="momentum of the target network at the first step; rises to 1"
    )


class BYOL(MultiCrop[BYOLParams]):
    """A network predicts what a slowly following one sees in another view of the slice; nothing is told apart."""

    first = parameters.SHORT | {
        "steps": 300, "batch": 48, "warmup": 10, "hidden": 512, "projection": 64, "target_momentum": 0.98,
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Online network with predictor, and target network."""
        from ctkit_models.networks import BYOLNetwork

        params = self.params
        return BYOLNetwork(
            trunk,
            hidden=params.hidden,
            projection=params.projection,
            target_momentum=params.target_momentum,
            steps=plan.steps,
        )
