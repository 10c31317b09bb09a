"""The networks that the built-in methods train, with their losses."""

from __future__ import annotations

from copy import deepcopy

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models.modules.heads import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    MoCoProjectionHead,
    SimCLRProjectionHead,
    SwaVProjectionHead,
)
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.nn.functional import normalize

from ctkit_models.network import Network, full_precision
from ctkit_models.parameters import BYOLParams, MoCoParams, SimCLRParams, SwAVParams
from ctkit_torch.trunks import Trunk

GLOBAL_VIEWS = 2  #: large views, which come first


class SimCLRNetwork(Network):
    """Trunk and projection head; the loss compares the two views of each slice with all others in the batch."""

    def __init__(self, trunk: Trunk, params: SimCLRParams) -> None:
        super().__init__(trunk)
        self.head = SimCLRProjectionHead(trunk.width, params.hidden, params.projection)
        self.criterion = NTXentLoss(params.temperature, gather_distributed=True)

    def forward(self, views: list[Tensor]) -> Tensor:
        """NT-Xent of two views (n, channels, size, size)."""
        first, second = (self.head(self.trunk(view)) for view in views)  # (n, projection)
        with full_precision(first):
            loss: Tensor = self.criterion(first.float(), second.float())
        return loss


class MoCoNetwork(Network):
    """A query network, a key network that follows it, and a queue of the keys of earlier batches."""

    def __init__(self, trunk: Trunk, params: MoCoParams, queue: int) -> None:
        super().__init__(trunk)
        width, projection = trunk.width, params.projection  # the width also of the hidden layer, in the paper 2048
        linear = params.head == "linear"
        self.head = nn.Linear(width, projection) if linear else MoCoProjectionHead(width, width, projection)
        self.key_trunk, self.key_head = momentum_copy(trunk), momentum_copy(self.head)
        self.key_momentum = params.key_momentum
        self.criterion = NTXentLoss(params.temperature, memory_bank_size=(queue, projection), gather_distributed=True)
        bank = self.criterion.memory_bank
        bank.register_buffer("bank", bank.bank)  # lightly keeps the queue out of state_dict
        bank.register_buffer("bank_ptr", bank.bank_ptr)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Cross-entropy of finding each first view's key among the queue; views are (n, channels, size, size)."""
        query = self.head(self.trunk(views[0]))  # (n, projection)
        with torch.no_grad():
            key = self.key_head(self.key_trunk(views[1]))
        with full_precision(query):
            loss: Tensor = self.criterion(query.float(), key.float())
        return loss

    def after_step(self, step: int) -> None:
        """Let the key network follow."""
        update_momentum(self.trunk, self.key_trunk, self.key_momentum)
        update_momentum(self.head, self.key_head, self.key_momentum)


class SwAVNetwork(Network):
    """Trunk, projection head and prototypes of length 1, which stay as they are for the first ``frozen_steps``."""

    def __init__(self, trunk: Trunk, params: SwAVParams, frozen_steps: int) -> None:
        super().__init__(trunk)
        self.head = SwaVProjectionHead(trunk.width, params.hidden, params.projection)
        self.prototypes = nn.Linear(params.projection, params.prototypes, bias=False)  # lightly's have a bias
        self.frozen_steps = frozen_steps
        self.criterion = SwaVLoss(
            params.temperature, params.sinkhorn_iterations, params.epsilon, sinkhorn_gather_distributed=True
        )
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


class BYOLNetwork(Network):
    """An online network with a predictor, and a target network that follows it ever more slowly over ``steps``."""

    def __init__(self, trunk: Trunk, params: BYOLParams, steps: int) -> None:
        super().__init__(trunk)
        self.head = BYOLProjectionHead(trunk.width, params.hidden, params.projection)
        self.predictor = BYOLPredictionHead(params.projection, params.hidden, params.projection)
        self.target_trunk, self.target_head = momentum_copy(trunk), momentum_copy(self.head)
        self.target_momentum = params.target_momentum
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


def momentum_copy(module: nn.Module) -> nn.Module:
    """A copy that no optimiser changes; lightly's ``update_momentum`` makes it follow."""
    copy = deepcopy(module)
    deactivate_requires_grad(copy)
    return copy
