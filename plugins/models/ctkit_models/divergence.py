"""A loss that is not a number: noticed on the device, and told to the user with the slices that were in the batch."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ctkit.contracts import Ints, Rows
from ctkit.errors import TrainingError

CHECK_EVERY = 50  #: steps, on a GPU: looking at a number there means waiting for it
SHOWN = 8  #: slices that the error names; the log has them all
_NEVER = torch.iinfo(torch.int64).max

log = logging.getLogger("ctkit.models")


class FirstBadLoss:
    """Remembers, on the losses' device, the first step with an infinite loss or one that is not a number."""

    def __init__(self) -> None:
        self._step: Tensor | None = None

    def see(self, loss: Tensor, step: int) -> None:
        """Take in the loss, a scalar, of a step. Waits for nothing."""
        if self._step is None:
            self._step = torch.tensor(_NEVER, device=loss.device)
        self._step = self._step.clamp(max=torch.where(torch.isfinite(loss), _NEVER, step))

    def due(self, step: int) -> bool:
        """Whether it is time to look: on the CPU at every step, where it costs nothing."""
        return self._step is None or self._step.device.type == "cpu" or step % CHECK_EVERY == 0

    @property
    def step(self) -> int | None:
        """The first bad step; None where there is none. Waits for the device."""
        return None if self._step is None or int(self._step) == _NEVER else int(self._step)


def diverged(step: int, steps: int, rate: float, rows: Rows, members: Ints) -> TrainingError:
    """The error for a bad loss at ``step`` (from 1), whose batch was the slices ``members`` of the arm."""
    named = [f"{i} (volume {rows.volume[i]}, row {rows.row[i]})" for i in members]
    log.info("slices in the batch of step %d: %s", step, ", ".join(named))
    more = f" and {len(named) - SHOWN} more, see the log" if len(named) > SHOWN else ""
    return TrainingError(
        f"the loss is NaN or infinite at step {step} of {steps}, learning rate {rate:g}; a lower learning_rate "
        "or a longer warmup may help, unless a slice is the cause; slices of the batch:"
        f" {', '.join(named[:SHOWN])}{more}"
    )
