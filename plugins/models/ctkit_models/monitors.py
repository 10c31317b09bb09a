"""What is measured of a training beside its loss, by the first process alone and without changing the training."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from ctkit.contracts import Pretraining
from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_models.collapse import Probe, collapse
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan
from ctkit_models.slices import Batches
from ctkit_models.watching import watches
from ctkit_torch.trunks import Trunk

ALIKE = 6  #: bits of 64 that alike slices differ in at most: the threshold of Wolf et al. 2024
LOSSES = 500  #: logged over a run, where the user does not say how often

log = logging.getLogger("ctkit.models")


class Monitors:
    """Near-duplicate pairs in a batch whenever the loss is logged, and now and then how the trunk's features spread."""

    def __init__(self, batches: Batches, params: ContrastiveParams, plan: Plan, job: Pretraining) -> None:
        self._plan = plan
        self._every = params.log_every or max(1, plan.steps // LOSSES)
        self._alike = AlikePairs(batches)
        self._probe = Probe(batches, plan, params.size)
        self._watches = watches(job, plan, params.size)
        self._warned = False

    def due(self, step: int, *, last: bool) -> bool:
        """Whether the loss is logged after ``step`` steps."""
        return last or step == 1 or step % self._every == 0

    def measure(self, step: int, trunk: Trunk, device: torch.device, *, last: bool) -> dict[str, float]:
        """Numbers after ``step`` steps, by name; a collapse is told at once, so that nobody need wait for the end."""
        values: dict[str, float] = {}
        if self.due(step, last=last):
            values["alike-pairs"] = self._alike.share(step - 1)
        if last or self._probe.due(step):
            values |= self._probe.measure(trunk, device)
            self._warn(step, values, trunk.width)
        values |= {watch.name: watch.measure(trunk, device) for watch in self._watches if last or watch.due(step)}
        return values

    def _warn(self, step: int, values: dict[str, float], width: int) -> None:
        found = collapse(values, self._plan, width)
        if found and not self._warned:
            log.warning("step %d of %d: %s", step, self._plan.steps, found)
        self._warned = found is not None


class AlikePairs:
    """The share of a batch's pairs whose hashes differ in ``ALIKE`` bits or less; each slice is hashed once.

    Hashes are of slices as they are stored for training, in that rendering and size, and before augmentation: near the
    hashes that the reducer ``hash`` compares, which are of the full slice from its own minimum to its own maximum, but
    not the same.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._codes = np.zeros((len(batches.rows), 1), np.uint64)
        self._known = np.zeros(len(batches.rows), bool)

    def share(self, step: int) -> float:
        """The share among pairs that are compared at ``step`` (from 0): of the whole batch, or of a part of it."""
        members = self._batches.members(step)
        new = members[~self._known[members]]
        if len(new):
            self._codes[new] = packed(dhash(self._batches.pixels(new)))
            self._known[new] = True
        parts = np.split(self._codes[members], self._batches.parts)
        return float(np.mean([alike_share(part) for part in parts]))


def alike_share(codes: NDArray[np.uint64]) -> float:
    """Share of the pairs of ``n`` codes (n, words), n at least 2, that differ in ``ALIKE`` bits or less."""
    n = len(codes)
    alike = int(np.count_nonzero(hamming(codes[:, None], codes[None]) <= ALIKE))
    return (alike - n) / (n * (n - 1))
