"""Mean losses over the stretches of a training, a hundredth of it each: which weights to keep, and when to give up."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan
from ctkit_torch.trunks import Trunk

STRETCHES = 100  #: in a run; each is one step where the run has no more


class Stretches:
    """Judges a training by its losses alone, so that it is judged the same in every process and every sitting.

    Losses of the warm-up do not count, nor those of the first ``unsettled`` steps: a loss may be low because nothing is
    asked yet. Nothing is judged where ``params`` ask for neither an early end nor the best backbone.
    """

    def __init__(self, params: ContrastiveParams, plan: Plan, unsettled: int = 0) -> None:
        self._steps = plan.steps
        self._first = max(plan.part(params.warmup, epochs=10), min(unsettled, plan.steps - 1)) + 1
        self._patience = math.inf if params.patience is None else params.patience * plan.unit
        self._gain = params.least_gain
        self._keeps_best = params.keep == "best"
        self._sum: Tensor | float = 0.0  # float64, of the stretch that is going on
        self._count = 0
        self.best = math.inf  #: lowest mean loss
        self.best_step = 0  #: after which the stretch that had it ended
        self._bar = math.inf  # what a mean loss must be below to count as a gain
        self._gained = 0  # step of the last gain
        self._weights: dict[str, Tensor] | None = None  # of the trunk after that step, on the CPU

    def see(self, loss: Tensor, step: int, trunk: Trunk) -> float | None:
        """Take in the loss, a scalar, of a step (from 1) that led to this trunk.

        Returns the mean loss of the stretch that ends with the step, if one does; only then it waits for the device.
        """
        if step < self._first or not (self._keeps_best or math.isfinite(self._patience)):
            return None
        self._sum, self._count = self._sum + loss.double(), self._count + 1
        if not self._ends(step):
            return None
        mean = float(self._sum) / self._count
        self._sum, self._count = 0.0, 0
        if mean < self._bar:
            self._bar, self._gained = mean - self._gain, step
        if mean < self.best:
            self.best, self.best_step = mean, step
            if self._keeps_best:
                self._weights = {name: value.to("cpu", copy=True) for name, value in trunk.state_dict().items()}
        return mean

    def given_up(self, step: int) -> bool:
        """Whether the training ends early after ``step`` steps, the last that was seen."""
        return step > 0 and self._ends(step) and step - max(self._gained, self._first - 1) >= self._patience

    def kept_step(self, steps: int) -> int:
        """After which of the steps taken the weights are those that are kept."""
        return self.best_step if self._keeps_best else steps

    def restore(self, trunk: Trunk) -> None:
        """Give the trunk its best weights, where they are kept."""
        if self._weights is not None:
            trunk.load_state_dict(self._weights)

    def notes(self, steps: int) -> tuple[str, ...]:
        """What the user must know of a training that took so many steps."""
        notes = []
        if steps < self._steps:
            lowest = f"was lowest at step {self.best_step}: {self.best:.4g}"
            notes.append(f"stopped early after {steps} of {self._steps} steps: the mean loss {lowest}")
        if self.kept_step(steps) != steps:
            notes.append(f"the backbone is that of step {self.best_step} of {steps}, where the mean loss was lowest")
        return tuple(notes)

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` takes to go on."""
        judged = {"best": self.best, "best_step": self.best_step, "weights": self._weights}
        gains = {"bar": self._bar, "gained": self._gained}
        return {"sum": float(self._sum), "count": self._count, **judged, **gains}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state."""
        self._sum, self._count = state["sum"], state["count"]
        self.best, self.best_step, self._weights = state["best"], state["best_step"], state["weights"]
        self._bar, self._gained = state["bar"], state["gained"]

    def _ends(self, step: int) -> bool:
        """Whether a stretch ends with ``step``; the last one does with the run."""
        return step * STRETCHES // self._steps > (step - 1) * STRETCHES // self._steps
