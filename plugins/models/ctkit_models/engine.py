"""Training of a contrastive method: loop, precision and devices by Lightning; views, schedule and checkpoints here.

Which slices a step sees, how they are augmented and how fast it learns are pure functions of seed, step and rank. So a
checkpoint is weights, optimiser and step, and a training that goes on from one equals one that was never stopped.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ctkit import stopping
from ctkit.contracts import Pretrained, Pretraining
from ctkit.errors import DataError, TrainingError
from ctkit_models.acceleration import accelerate, channels_last
from ctkit_models.batch_size import found_batch, unheard
from ctkit_models.collapse import Probe, collapse, numbers
from ctkit_models.divergence import FirstBadLoss, diverged
from ctkit_models.lightning_overrides import honest_interrupt, ignore_interrupts, quiet_lightning
from ctkit_models.metering import Meters, TimedLoader
from ctkit_models.monitors import Monitors
from ctkit_models.network import Network, Trainable
from ctkit_models.optimisers import build_optimiser, learning_rate
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import Plan, plan_run
from ctkit_models.processes import group_notes, process_group, world_size
from ctkit_models.ranks import Rank, agree, any_says, mean, meet
from ctkit_models.slices import Batches
from ctkit_models.stretches import Stretches
from ctkit_models.trainer import check_device, job_on_gpu, trainer_for
from ctkit_models.views import Draws, Normalise
from ctkit_torch.backbones import load_backbone, save_backbone
from ctkit_torch.checkpoints import Checkpoints
from ctkit_torch.precision import tuned_convolutions
from ctkit_torch.seeding import derived_seed, seeded
from ctkit_torch.trunks import Trunk, build_trunk

ASKED_EVERY = 50  #: steps, where processes must ask each other whether to stop
MOST_READERS = 8  #: processes that read batches: each reads faster than any GPU trains, and takes shared memory

log = logging.getLogger("ctkit.models")


def pretrain(method: Trainable, job: Pretraining) -> Pretrained:
    """Train ``method`` on the job's slices and write ``backbone.safetensors`` into the job's folder."""
    check_device(method.params, job)
    plan = _plan(method, job)
    notes = (*method.notes(plan), *group_notes(job))
    for note in notes:
        log.info("%s", note)  # the core shows the notes of what is done; the log has them as soon as it starts
    with process_group(job, partial(train, method, plan, unheard(job))) as rank:
        training = train(method, plan, job, rank)
    done, measured = training.done, training.settle()
    if not numbers(measured):
        raise TrainingError(
            "the trained backbone's features are NaN or infinite, although its losses were not; a lower"
            " learning_rate or another precision may help"
        )
    backbone = job.folder / "backbone.safetensors"
    metadata = {**_description(method, plan, job, training.stretches.kept_step(done.steps)), **job.metadata}
    save_backbone(backbone, training.network.trunk, mean=job.rows.mean, std=training.std, metadata=metadata)
    collapsed = collapse(measured, plan, training.network.trunk.width)
    notes += (*training.stretches.notes(done.steps), *([collapsed] if collapsed else ()))
    return Pretrained(
        backbone,
        done.steps,
        done.steps / plan.steps_per_epoch,
        plan.batch,
        done.seconds,
        tuple(done.history),
        notes,
        collapsed=collapsed is not None,
        waiting=done.waited / done.seconds if done.seconds else None,
        joules=done.joules,
        peak_bytes=done.peak_bytes,
    )


def _plan(method: Trainable, job: Pretraining) -> Plan:
    processes, volumes, batch = world_size(job), len(np.unique(job.rows.volume)), None
    if method.params.batch == "auto":
        batch = found_batch(method, job, volumes, processes, partial(train, rank=Rank()))
    return plan_run(method.params, len(job.rows), processes, batch, volumes)


def train(method: Trainable, plan: Plan, job: Pretraining, rank: Rank) -> Training:
    """Do this process's part of a training."""
    with seeded(job.seed):
        training = Training(method, plan, job, rank)
        training.fit()
    return training


@dataclass
class Done:
    """What a training has done so far, besides its weights."""

    steps: int = 0
    seconds: float = 0.0  #: over all sittings
    waited: float = 0.0  #: of these, for data
    joules: float | None = None
    peak_bytes: int | None = None
    history: list[tuple[int, str, float]] = field(default_factory=list)


class Training(lightning.LightningModule):
    """One training in Lightning's terms: the method's network, and what its steps need."""

    def __init__(self, method: Trainable, plan: Plan, job: Pretraining, rank: Rank) -> None:
        super().__init__()
        self.rank = rank
        self.params: ContrastiveParams = method.params
        self.plan = plan
        self.job = job
        self.std = job.rows.std or 1.0  # an arm of constant slices has no deviation
        self.views = method.views(Normalise(job.rows.mean, self.std))
        network = method.network(_initial_trunk(method.params), plan)
        if not isinstance(network, Network):
            given = type(network).__name__
            raise TypeError(
                f"network must return a ctkit_models.Network but returned a {given}; build one on the trunk"
            )
        self.network = accelerate(network, method.params, on_gpu=job_on_gpu(job))
        self.checkpoints = Checkpoints(job.folder)
        self.done = Done()
        self._part_losses: list[Tensor] = []  # of the step that is going on, each divided by the number of parts
        self._bad_loss = FirstBadLoss()
        self.stretches = Stretches(method.params, plan, method.unsettled(plan))
        self._saved: dict[str, Any] | None = None
        self._started = self._checked = time.monotonic()

    def fit(self) -> None:
        """Train what is left after the last checkpoint."""
        self._saved = self.checkpoints.newest()
        if self._saved is not None:
            self._check_plan(Plan(**self._saved["plan"]))
            self.network.load_state_dict(self._saved["network"])
            self.done = Done(**self._saved["done"])
            self.stretches.load_state_dict(self._saved["stretches"])
        if self.rank.world > 1 and not agree(self.done.steps):
            raise TrainingError(
                "processes find different checkpoints; the cache must be a folder that all of them share"
            )
        if self._is_over:
            return
        with quiet_lightning(), honest_interrupt(), tuned_convolutions(on_gpu=job_on_gpu(self.job)):
            trainer_for(self.params, self.job, self.rank).fit(self)
        if self.rank.world > 1:
            meet()
        stopping.check()

    def _check_plan(self, earlier: Plan) -> None:
        if (earlier.batch, earlier.steps) == (self.plan.batch, self.plan.steps):
            return
        before, now = (
            f"{plan.pieces // self.params.accumulate} devices: {plan.steps} steps with a batch of {plan.batch}"
            for plan in (earlier, self.plan)
        )
        raise TrainingError(
            f"the training was begun on {before}, and cannot resume on {now}; run with the earlier number of devices"
        )

    def settle(self) -> dict[str, float]:
        """Take the weights that are to be kept, and return the last numbers of each kind, to judge them by."""
        if self.stretches.kept_step(self.done.steps) == self.done.steps:
            return {name: value for _, name, value in self.done.history}
        trunk, device = self.network.trunk, torch.device(self.job.device)
        self.stretches.restore(trunk)
        measured = Probe(self._batches(), self.plan, self.params.size).measure(trunk.to(device), device)
        trunk.cpu()
        return measured

    @property
    def _is_over(self) -> bool:
        return self.done.steps == self.plan.steps or self.stretches.given_up(self.done.steps)

    @property
    def _logs(self) -> bool:
        """Whether the loss of the step that was just done is logged."""
        return self.monitors.due(self.done.steps, last=self._is_over)

    # --- what Lightning asks for, in the order in which it asks ---

    def configure_optimizers(self) -> Optimizer:
        """The optimiser, as the last checkpoint left it."""
        optimiser = build_optimiser(self.network, self.params)
        if self._saved is not None:
            optimiser.load_state_dict(self._saved["optimiser"])
        return optimiser

    def train_dataloader(self) -> TimedLoader:
        """The batches of the steps that are left, one element for each part."""
        on_gpu, parts = self.device.type == "cuda", self.params.accumulate
        loader = DataLoader(
            self._batches(),
            batch_size=None,
            sampler=range(self.done.steps * parts, self.plan.steps * parts),
            # On the CPU workers would take the cores that train.
            num_workers=min(MOST_READERS, -(-self.job.workers // self.rank.neighbours)) if on_gpu else 0,
            pin_memory=on_gpu,
            worker_init_fn=ignore_interrupts,
        )
        self.meters = Meters(self.device)
        return TimedLoader(loader, self.meters.waiting)

    def on_train_start(self) -> None:
        """Restore the loss scaling of fp16, get ready to measure, and start the clock."""
        if self._saved is not None:
            self.trainer.precision_plugin.load_state_dict(self._saved["precision"])
        self._saved = None
        self.monitors = Monitors(self._batches(), self.params, self.plan, self.job)
        self.meters.take()  # what came before the start is nothing of ours
        self._started = self._checked = time.monotonic()

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Set the rate of this step, and the random numbers of layers that draw, such as dropout."""
        rate = learning_rate(self.params, self.plan, self.done.steps)
        for group in self._optimiser().param_groups:
            group["lr"] = rate
        torch.manual_seed(derived_seed(self.job.seed, self.done.steps, 2, self._piece))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of a batch, or of a part of one, of slices (n, size, size) uint8."""
        loss: Tensor = self.network(self._augmented(batch))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            given = f"one of {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise TypeError(f"forward must return the loss, a tensor of one number, but returned {given}; reduce it")
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Let the method change gradients."""
        self.network.after_backward(self.done.steps)

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        """After the last part of a batch, let the method change weights; then log, save, and stop where asked to."""
        self._part_losses.append(outputs["loss"])
        if len(self._part_losses) < self.params.accumulate:
            return
        self.network.after_step(self.done.steps)
        self.done.steps += 1
        own = torch.stack(self._part_losses).sum()
        self._part_losses.clear()
        loss = own if self.rank.world == 1 else mean(own)
        self._bad_loss.see(loss, self.done.steps)
        mean_loss = self.stretches.see(loss, self.done.steps, self.network.trunk)
        self.trainer.should_stop = self._is_over or self._asked_to_stop()
        if self._logs or self._bad_loss.due(self.done.steps):
            self._stop_if_diverged()  # all processes do at the same step, so that none waits for another
        if self.trainer.is_global_zero:
            self._log(loss, mean_loss)
            self._save_when_due()
            self.job.progress(self.done.steps, self.done.steps if self._is_over else self.plan.steps)

    def on_train_end(self) -> None:
        """Stop the clock."""
        self._take_time()

    # --- the parts of a step ---

    def _batches(self) -> Batches:
        return Batches(
            self.job.rows,
            self.job.seed,
            self.plan.batch,
            rank=self.rank.number,
            world=self.rank.world,
            parts=self.params.accumulate,
            sampler=self.params.sampler,
        )

    @property
    def _piece(self) -> int:
        """Number of what this process has of the batch at the moment, of ``plan.pieces``."""
        return len(self._part_losses) * self.rank.world + self.rank.number

    @torch.no_grad()
    def _augmented(self, slices: Tensor) -> list[Tensor]:
        """Views (n, channels, size, size) of slices (n, size, size), in full precision."""
        draws = Draws(
            self.job.seed, self.done.steps, len(slices), rank=self._piece, world=self.plan.pieces, device=slices.device
        )
        with torch.autocast(slices.device.type, enabled=False):
            views = [view(slices, draws).expand(-1, self.params.channels, -1, -1) for view in self.views]
        if channels_last(self.params, on_gpu=slices.is_cuda):
            return [view.contiguous(memory_format=torch.channels_last) for view in views]
        return views

    def _asked_to_stop(self) -> bool:
        """Whether the user asked any of the processes to stop; several look up from their work only now and then."""
        if self.rank.world == 1:
            return stopping.asked()
        if self.done.steps % ASKED_EVERY and not self._logs:
            return False
        return any_says(stopping.asked(), self.device)

    def _stop_if_diverged(self) -> None:
        bad = self._bad_loss.step
        if bad is not None:
            rate = learning_rate(self.params, self.plan, bad - 1)
            raise diverged(bad, self.plan.steps, rate, self.job.rows, self._batches().members(bad - 1))

    def _log(self, loss: Tensor, mean_loss: float | None) -> None:
        step = self.done.steps
        values = self.monitors.measure(step, self.network.trunk, self.device, last=self._is_over)
        if self._logs:
            values |= {"loss": loss.item(), "learning-rate": float(self._optimiser().param_groups[0]["lr"])}
        if mean_loss is not None:
            values["mean-loss"] = mean_loss
        for name, value in values.items():
            self.done.history.append((step, name, value))
            self.job.metric(name, value, step)

    def _save_when_due(self) -> None:
        now = time.monotonic()
        due = now - self._checked >= 60 * self.params.checkpoint_minutes
        if not (due or self.trainer.should_stop):
            return
        self._checked = now
        if self._bad_loss.step is not None:  # soon it stops; weights that are NaN must not replace good ones
            return
        self._take_time()
        state = {
            "network": self.network.state_dict(),
            "optimiser": self._optimiser().state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
            "stretches": self.stretches.state_dict(),
            "plan": asdict(self.plan),
            "done": asdict(self.done),
        }
        self.checkpoints.save(state, self.done.steps)

    def _take_time(self) -> None:
        now = time.monotonic()
        self.done.seconds += now - self._started
        self._started = now
        waited, joules, peak = self.meters.take()
        self.done.waited += waited
        self.done.joules = None if joules is None else joules + (self.done.joules or 0)
        self.done.peak_bytes = None if peak is None else max(peak, self.done.peak_bytes or 0)

    def _optimiser(self) -> Optimizer:
        return self.trainer.optimizers[0]


def _initial_trunk(params: ContrastiveParams) -> Trunk:
    trunk = build_trunk(params.backbone, params.channels)
    if params.init is not None:
        start = load_backbone(params.init, params.backbone)
        if start.architecture != params.backbone:
            raise DataError(f"init is a {start.architecture} but backbone is {params.backbone}; make them equal")
        trunk.load(start.trunk.weights())
    return trunk


def _description(method: Trainable, plan: Plan, job: Pretraining, steps: int) -> dict[str, str]:
    return {
        "method": type(method).__name__,
        "slices": str(plan.slices),
        "batch": str(plan.batch),
        "steps": str(steps),
        "size": str(method.params.size),
        "seed": str(job.seed),
    }
