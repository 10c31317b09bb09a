"""What the engine asks of a method that it trains; ``Contrastive`` has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ctkit_models.network import Network
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan
from ctkit_models.views import Normalise, View
from ctkit_torch.trunks import Trunk


class Trainable(Protocol):
    """A method as the engine sees it."""

    @property
    def params(self) -> ContrastiveParams:
        """What the user chose."""

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """The module that is trained."""

    def views(self, normalise: Normalise) -> Sequence[View]:
        """The views of each slice."""

    def unsettled(self, plan: Plan) -> int:
        """First steps whose losses say nothing of the network."""

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """What the user must know of how the parameters were fitted to the arm."""
