"""MoCo v2 (He et al. 2020, arXiv 1911.05722; Chen et al. 2020, arXiv 2003.04297). Its network is imported on use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctkit_models.contrastive import Contrastive
from ctkit_models.parameters import SHORT, MoCoParams
from ctkit_models.plan import Plan

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_torch.trunks import Trunk

__all__ = ["MoCo", "MoCoParams"]


class MoCo(Contrastive[MoCoParams]):
    """One view of a slice finds the other, seen by a slowly following network, among a queue of earlier slices."""

    # Keys that follow slower would be the start's to the end; faster, and their age gives them away.
    first = SHORT | {
        "steps": 150, "batch": 48, "warmup": 10, "weight_decay": 1e-6, "decay": "weights", "temperature": 0.1,
        "head": "linear", "projection": 64, "queue": 240, "key_momentum": 0.98,
    }  # fmt: skip

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """Query and key networks, and the queue."""
        from ctkit_models.networks import MoCoNetwork

        return MoCoNetwork(trunk, self.params, self.queue(plan))

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
