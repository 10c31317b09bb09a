"""Jobs: the backbones and the evaluations that a pipeline asks for, with the addresses of their results."""

from __future__ import annotations

from dataclasses import dataclass

from ctkit.pipeline_file import PretrainPlan, TaskPlan
from ctkit.session import Only
from ctkit.stages.selected import Selected
from ctkit.storage import address

_BETWEEN_REPEATS = 1000  # more than a run has seeds


@dataclass(frozen=True)
class Job:
    """One backbone of the plan: an arm, a method and a seed. A baseline takes of its arm the grey levels alone."""

    selected: Selected
    plan: PretrainPlan
    seed: int
    address: str
    baseline: bool

    @property
    def arm(self) -> str:
        """The arm's id, or the baseline's: what results are listed under."""
        return self.plan.id if self.baseline else self.selected.arm.id

    @property
    def pretrain(self) -> str:
        """The pre-training's id; "" for a baseline."""
        return "" if self.baseline else self.plan.id

    @property
    def item(self) -> str:
        """What the job is called in logs and in the run folder."""
        return "/".join(filter(None, (self.arm, self.pretrain, f"seed-{self.seed}")))

    def is_wanted(self, only: Only) -> bool:
        """Whether the user asks for it."""
        return only.wants(arm=self.arm, pretrain=self.pretrain, seed=self.seed)


@dataclass(frozen=True)
class Evaluated:
    """The predictions of one backbone on one task, with one repeat of the evaluation and one share of labels."""

    job: Job
    plan: TaskPlan
    labels: float
    repeat: int
    fingerprint: str  #: of the task and its files

    @property
    def seed(self) -> int:
        """Seed of the evaluation: every repeat on every backbone has one of its own."""
        return (self.job.seed + _BETWEEN_REPEATS * self.repeat) % 2**32

    @property
    def address(self) -> str:
        """Address of the predictions; the backbone's address stands for its seed."""
        return address(
            "evaluate",
            backbone=self.job.address,
            task=self.fingerprint,
            protocol=self.plan.protocol.identity,
            labels=self.labels,
            repeat=self.repeat,
        )

    @property
    def work_address(self) -> str:
        """Address of what evaluations of one backbone on one task share, such as features."""
        return address("evaluation", backbone=self.job.address, task=self.fingerprint)

    @property
    def item(self) -> str:
        """What the evaluation is called in logs: with repeat and share of the labels where there are several."""
        name = f"{self.job.item}/{self.plan.id}/{self.plan.protocol.entry.name}"
        several = self.plan.repeats > 1 or len(self.plan.labels) > 1
        return f"{name}/repeat-{self.repeat}-labels-{self.labels:g}" if several else name

    def is_wanted(self, only: Only) -> bool:
        """Whether the user asks for it."""
        return self.job.is_wanted(only) and only.wants(task=self.plan.id)
