"""Looking at the features of a trunk while it is trained: how that changes nothing, and how often it costs little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ctkit_models.plan import Plan
from ctkit_torch.precision import exact_convolutions
from ctkit_torch.trunks import Trunk

POINTS = 20  #: times in a run at most
COST = 0.01  #: share of a training's work that looking at some images may take, beside one look at the end
END_COST = 0.1  #: share that the look at the end may take
FEWEST = 32  #: images that are looked at however short a training is
_PROBED_IN_STEP = 6  # a step of n slices is at least 2 views, forward and, twice as dear, backward: 6 n probed images


class Look:
    """Looks at so many images again and again."""

    def __init__(self, plan: Plan, images: int) -> None:
        self._every = max(-(-plan.steps // POINTS), round(images / (_PROBED_IN_STEP * plan.batch * COST)))  # steps
        self._at_a_time = max(1, plan.batch // plan.pieces)  # a device has memory for these, as it trains with them

    def due(self, step: int) -> bool:
        """Whether to measure after ``step`` steps, if they are not the last."""
        return step % self._every == 0


def affordable(plan: Plan, images: int) -> int:
    """How many of so many images a look takes at most: fewer in a training that is over at once."""
    return min(images, max(FEWEST, int(_PROBED_IN_STEP * plan.batch * plan.steps * END_COST)))


@torch.no_grad()
def features_of(trunk: Trunk, images: Iterable[Tensor]) -> Tensor:
    """Features (n, width) float32 on the CPU of parts (m, channels, size, size) of ``n`` images on the trunk's device.

    It draws no random numbers, trains nothing and leaves batch statistics alone, so that a training goes the same way
    with and without it.
    """
    with evaluating(trunk), exact_convolutions():
        return torch.cat([_features(trunk, part) for part in images])


def _features(trunk: Trunk, images: Tensor) -> Tensor:
    with torch.autocast(images.device.type, enabled=False):
        return trunk.forward(images).float().cpu()  # a call would compile it for this look


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and each of its parts back into its own mode at the end."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
