"""SwAV (Caron et al. 2020, arXiv 2006.09882), the CT paper's main method. Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ctkit_models import parameters
from ctkit_models.contrastive import MultiCrop
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk


class SwAVParams(parameters.MultiCropParams):
    """Settings of SwAV, as the CT paper trained it."""

    learning_rate: parameters.LearningRate = 0.15
    scale: parameters.Scale = (0.9, 1.0)
    local_views: parameters.LocalViews = 6
    local_scale: parameters.LocalScale = (0.1, 0.33)
    flip_horizontal: parameters.Flip = 0.0
    flip_vertical: parameters.Flip = 0.0
    rotation: parameters.Degrees = 0.0
    rotation_p: parameters.RotationP = 0.0
    jitter_p: parameters.JitterP = 0.8
    blur_p: parameters.BlurP = 0.5
    noise_p: parameters.NoiseP = 0.0
    temperature: parameters.Temperature = 0.1
    hidden: parameters.Hidden = 2048
    projection: parameters.Projection = 128
    prototypes: int = Field(500, ge=2, description="number of prototypes, to which views are assigned")
    frozen: int | None = Field(
        None,
        ge=0,
        description="length of the start with fixed prototypes, in epochs, or in steps if steps is given; "
        "none: 1 epoch, or a tenth of the run if that is less",
    )
    sinkhorn_iterations: int = Field(3, ge=1, description="iterations of the Sinkhorn algorithm")
    epsilon: float = Field(
        0.05, ge=0.02, description="entropy regularisation of the Sinkhorn algorithm; exp(1 / epsilon) must be finite"
    )


class SwAV(MultiCrop[SwAVParams]):
    """Each view predicts to which prototypes the other views of its slice are assigned, evenly over the batch."""

    first = parameters.SHORT | {
        "steps": 160, "batch": 48, "local_views": 0, "hidden": 512, "projection": 64, "frozen": 0,
        "prototypes": 15,  # a batch has three slices for each
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Trunk, projection head and prototypes under lightly's SwAV loss."""
        from ctkit_models.networks import SwAVNetwork

        params = self.params
        return SwAVNetwork(
            trunk,
            hidden=params.hidden,
            projection=params.projection,
            prototypes=params.prototypes,
            temperature=params.temperature,
            sinkhorn_iterations=params.sinkhorn_iterations,
            epsilon=params.epsilon,
            frozen_steps=plan.part(params.frozen, epochs=1),
        )
