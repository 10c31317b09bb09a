"""Networks that slowly follow another one."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

from lightly.models.utils import deactivate_requires_grad
from torch import nn

Followed = TypeVar("Followed", bound=nn.Module)


def momentum_copy(module: Followed) -> Followed:
    """A copy that no optimiser changes; lightly's ``update_momentum`` makes it follow."""
    copy = deepcopy(module)
    deactivate_requires_grad(copy)
    return copy
