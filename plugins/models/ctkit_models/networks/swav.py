"""The network of SwAV."""

from __future__ import annotations

import torch
from lightly.loss import SwaVLoss
from lightly.models.modules.heads import SwaVProjectionHead
from torch import Tensor, nn
from torch.nn.functional import normalize

from ctkit_models.network import Network, full_precision
from ctkit_torch.trunks import Trunk

GLOBAL_VIEWS = 2


class SwAVNetwork(Network):
    """Trunk, projection head and prototypes of length 1, which stay as they are for the first ``frozen_steps``."""

    def __init__(
        self,
        trunk: Trunk,
        *,
        hidden: int,
        projection: int,
        prototypes: int,
        temperature: float,
        sinkhorn_iterations: int,
        epsilon: float,
        frozen_steps: int,
    ) -> None:
        super().__init__(trunk)
        self.head = SwaVProjectionHead(trunk.width, hidden, projection)
        self.prototypes = nn.Linear(projection, prototypes, bias=False)  # lightly's have a bias
        self.frozen_steps = frozen_steps
        self.criterion = SwaVLoss(temperature, sinkhorn_iterations, epsilon, sinkhorn_gather_distributed=True)
        self._normalise_prototypes()

    def forward(self, views: list[Tensor]) -> Tensor:
        """Cross-entropy between assignments and predictions; the first two views are the large ones."""
        scores = [*self._scores(views[:GLOBAL_VIEWS]), *self._scores(views[GLOBAL_VIEWS:])]
        with full_precision(views[0]):
            loss: Tensor = self.criterion(scores[:GLOBAL_VIEWS], scores[GLOBAL_VIEWS:])
        return loss.squeeze()

    def _scores(self, views: list[Tensor]) -> list[Tensor]:
        """Cosines (n, prototypes) of views of one size, which pass the network together, as in SwAV's own code."""
        if not views:
            return []
        projected = self.head(self.trunk(torch.cat(views)))
        with full_precision(projected):
            scores: Tensor = self.prototypes(normalize(projected.float(), dim=1))
        return list(scores.chunk(len(views)))

    def after_backward(self, step: int) -> None:
        """Keep the prototypes as they are at the start."""
        if step < self.frozen_steps:
            self.prototypes.weight.grad = None

    def after_step(self, step: int) -> None:
        """Bring the prototypes back to length 1."""
        self._normalise_prototypes()

    @torch.no_grad()
    def _normalise_prototypes(self) -> None:
        self.prototypes.weight.copy_(normalize(self.prototypes.weight, dim=1))
