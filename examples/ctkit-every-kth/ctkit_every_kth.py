"""Keep every k-th slice from an offset on: a complete ctkit plugin in one module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from ctkit.contracts import Decision, Group, Params, Reducer, knob
from ctkit.hookspecs import Spec, hookimpl


class EveryKthParams(Params):
    """First slice and step."""

    k: int = knob(10, low=1, high=100_000, unit="slices", description="step from one kept slice to the next")
    offset: int = Field(default=0, ge=0, description="the first slice to keep, counted in slices from 0")


class EveryKth(Reducer[EveryKthParams]):
    """Keeps the slices ``offset``, ``offset + k``, ``offset + 2 k``, ... of each group."""

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Choose by position in the group; no pixels are read."""
        position = np.arange(len(group)) - self.params.offset
        return Decision(kept=(position >= 0) & (position % int(at) == 0))


@hookimpl
def ctkit_register_reducers() -> Sequence[Spec]:
    """Register the reducer; ``use = "every-kth"`` in a pipeline file finds it."""
    return [Spec("every-kth", "keeps every k-th slice of a group, from an offset on", "ctkit_every_kth:EveryKth")]
