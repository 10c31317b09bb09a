"""What is measured of a training beside its loss, by the first process alone and without changing the training."""

from __future__ import annotations

import logging

import torch

from ctkit.contracts import Pretraining
from ctkit_models.alike_pairs import AlikePairs
from ctkit_models.collapse import Probe, collapse
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan
from ctkit_models.slices import Batches
from ctkit_models.watching import watches
from ctkit_torch.trunks import Trunk

LOSSES = 500  #: logged over a run, where the user does not say how often

log = logging.getLogger("ctkit.models")


class Monitors:
    """Alike pairs in the batch whenever the loss is logged, and now and then what the trunk's features are like."""

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
        found = collapse([(step, name, value) for name, value in values.items()], self._plan, width)
        if found and not self._warned:
            log.warning("step %d of %d: %s", step, self._plan.steps, found)
        self._warned = found is not None
