"""MoCo v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297). Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ctkit_models import parameters
from ctkit_models.contrastive import Contrastive
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk


class MoCoParams(parameters.ContrastiveParams):
    """Settings of MoCo v2, as the CT paper trained it but for the projection head, which was linear there."""

    optimiser: parameters.Optimiser = "sgd"
    learning_rate: parameters.LearningRate = 0.015
    weight_decay: parameters.WeightDecay = 1e-4
    decay: parameters.Decay = "all"
    warmup: parameters.Warmup = 0
    temperature: parameters.Temperature = 0.07
    projection: parameters.Projection = 128
    head: Literal["mlp", "linear"] = Field("mlp", description="projection head; linear as in the first MoCo")
    queue: int = Field(
        65536, ge=1, description="keys of earlier batches, used as negatives; at most those of one epoch"
    )
    key_momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key network per step")


class MoCo(Contrastive[MoCoParams]):
    """One view of a slice finds the other, seen by a slowly following network, among a queue of earlier slices."""

    # Keys that follow slower would be the start's to the end; faster, and their age gives them away.
    first = parameters.SHORT | {
        "steps": 150, "batch": 48, "warmup": 10, "weight_decay": 1e-6, "decay": "weights", "temperature": 0.1,
        "head": "linear", "projection": 64, "queue": 240, "key_momentum": 0.98,
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Query and key networks, and the queue."""
        from ctkit_models.networks import MoCoNetwork

        params = self.params
        return MoCoNetwork(
            trunk,
            projection=params.projection,
            linear=params.head == "linear",
            temperature=params.temperature,
            key_momentum=params.key_momentum,
            queue=self.queue(plan),
        )

    def queue(self, plan: Plan) -> int:
        """Length of the queue, at most the keys of one epoch.

        Epochs differ in their order, so at that length every second slice still meets one older key of its own.
        """
        return min(self.params.queue, plan.steps_per_epoch * plan.batch)

    def unsettled(self, plan: Plan) -> int:
        """While the queue holds the random keys that it starts with, it is easy to tell a slice from them."""
        return -(-self.queue(plan) // plan.batch)

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """Adds whether the queue was lowered."""
        queue, asked = self.queue(plan), self.params.queue
        if queue == asked:
            return super().notes(plan)
        reason = (
            f"the arm has {plan.slices} slices, and a longer queue would only contain older keys of the same slices"
        )
        return (*super().notes(plan), f"queue lowered from {asked} to {queue}: {reason}")
