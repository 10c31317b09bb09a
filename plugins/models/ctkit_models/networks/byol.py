"""The network of BYOL."""

from __future__ import annotations

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor

from ctkit_models.network import Network, full_precision
from ctkit_models.networks.momentum import momentum_copy
from ctkit_torch.trunks import Trunk

GLOBAL_VIEWS = 2


class BYOLNetwork(Network):
    """An online network with a predictor, and a target network that follows it ever more slowly over ``steps``."""

    def __init__(self, trunk: Trunk, *, hidden: int, projection: int, target_momentum: float, steps: int) -> None:
        super().__init__(trunk)
        self.head = BYOLProjectionHead(trunk.width, hidden, projection)
        self.predictor = BYOLPredictionHead(projection, hidden, projection)
        self.target_trunk, self.target_head = momentum_copy(trunk), momentum_copy(self.head)
        self.target_momentum = target_momentum
        self.steps = steps
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> Tensor:
        """Mean negative cosine of each view's prediction and the target's projection of each other large view."""
        predictions = [self.predictor(self.head(self.trunk(view))).float() for view in views]
        with torch.no_grad():
            targets = [self.target_head(self.target_trunk(view)).float() for view in views[:GLOBAL_VIEWS]]
        with full_precision(predictions[0]):
            losses = [
                self.criterion(prediction, target)
                for i, prediction in enumerate(predictions)
                for j, target in enumerate(targets)
                if i != j
            ]
        return torch.stack(losses).mean()

    def after_step(self, step: int) -> None:
        """Let the target network follow."""
        momentum = cosine_schedule(step, self.steps, self.target_momentum, 1.0)
        update_momentum(self.trunk, self.target_trunk, momentum)
        update_momentum(self.head, self.target_head, momentum)
