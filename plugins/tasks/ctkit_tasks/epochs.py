"""Training epoch by epoch, of which the best is kept: what was killed goes on, and what is done is not done again."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ctkit import stopping
from ctkit.contracts import Evaluation
from ctkit.files import write_bytes
from ctkit_torch.backbones import read_safetensors, safetensors_bytes
from ctkit_torch.checkpoints import Checkpoints
from ctkit_torch.precision import has_bf16

CHECKPOINT_SECONDS = 600.0  #: between checkpoints of a training
_MODEL = "model.safetensors"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """A network as it was after an epoch."""

    number: int  #: counted from 1
    accuracy: float  #: on the validation images; of masks the Dice coefficient
    loss: float
    weights: dict[str, Tensor]

    def note(self, epochs: int, images: int, measure: str = "accuracy") -> str:
        """Say which of the epochs was best on how many validation images."""
        best = f"epoch {self.number} of {epochs} was best on {images} validation images"
        return f"{best} ({measure} {self.accuracy:.3f})"


class OnTrunk(nn.Module):
    """A network on a trunk, which is trained with it or frozen."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def train_with(self, *, frozen_trunk: bool) -> None:
        """Enter training mode; a frozen trunk takes no gradient and keeps its batch statistics."""
        self.train()
        self.trunk.train(not frozen_trunk)
        self.trunk.requires_grad_(not frozen_trunk)


class Training(ABC):
    """One training of a network for a job; its state is the network's, the optimiser's and the best epoch's."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, job: Evaluation) -> None:
        self.network, self.optimiser, self.job = network, optimiser, job
        self.epochs = 0
        self.best: Epoch | None = None

    @abstractmethod
    def epoch(self) -> None:
        """Train for an epoch and note it. What is drawn is a function of the job's seed and the epoch."""

    def note(self, accuracy: float, loss: float) -> None:
        """Remember the network if this epoch is the most accurate so far, or as accurate and of lower loss."""
        if self.best is None or (accuracy, -loss) > (self.best.accuracy, -self.best.loss):
            self.best = Epoch(self.epochs, accuracy, loss, copy.deepcopy(self.network.state_dict()))

    def state(self) -> dict[str, Any]:
        """All that a later process needs."""
        assert self.best is not None
        weights, optimiser = self.network.state_dict(), self.optimiser.state_dict()
        return {"epochs": self.epochs, "weights": weights, "optimiser": optimiser, "best": vars(self.best)}

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on from a state, if there is one."""
        if state is not None:
            self.epochs, self.best = state["epochs"], Epoch(**state["best"])
            self.network.load_state_dict(state["weights"])
            self.optimiser.load_state_dict(state["optimiser"])


def best_epoch(folder: Path, epochs: int, start: Callable[[], Training]) -> Epoch:
    """Return the best epoch that ``folder`` keeps, or else train what is left after the last checkpoint and keep it.

    Raises ``KeyboardInterrupt`` after the checkpoint of an epoch where the run is to stop.
    """
    if kept := _kept_model(folder):
        return kept
    training, checkpoints = start(), Checkpoints(folder)
    training.resume(checkpoints.newest())
    saved = time.monotonic()
    while training.epochs < epochs:
        training.epoch()
        due = stopping.asked() or time.monotonic() - saved >= CHECKPOINT_SECONDS
        if due and training.epochs < epochs:
            checkpoints.save(training.state(), training.epochs)
            saved = time.monotonic()
            stopping.check()
    assert training.best is not None
    _keep_model(folder, training.best)
    checkpoints.remove()
    return training.best


def digest(stage: str, job: Evaluation, params: Mapping[str, Any], version: int) -> str:
    """SHA-256, in hex digits, of all that a model depends on beside the backbone and the task of its folder."""
    made_of = {"version": version, "params": dict(params), "labels": job.labels, "seed": job.seed}
    text = json.dumps({"stage": stage, **made_of}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def learn(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> None:
    """Take one step of the optimiser; on a GPU that has it in bfloat16, whose range needs no scaling of the loss."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda and has_bf16()):
        loss = loss_of(network(images), targets)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
    optimiser.step()


def shuffled(count: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Shuffle ``count`` numbers into batches of nearly equal size, none of one image: it has no batch statistics."""
    return np.array_split(rng.permutation(count), min(math.ceil(count / size), count // 2))


def _kept_model(folder: Path) -> Epoch | None:
    """The model that an earlier training left; None where there is none, or it is damaged."""
    path = folder / _MODEL
    if not path.exists():
        return None
    try:
        weights, facts = read_safetensors(path)
        if facts.pop("crc32") == _checksum(weights, facts):
            return Epoch(int(facts["epoch"]), float(facts["accuracy"]), float(facts["loss"]), weights)
    except (safetensors.SafetensorError, OSError, KeyError, ValueError):
        log.debug("reading a kept model failed", exc_info=True)
    log.warning("a kept model is damaged and is trained again")
    return None


def _keep_model(folder: Path, best: Epoch) -> None:
    facts = {"epoch": str(best.number), "accuracy": repr(best.accuracy), "loss": repr(best.loss)}
    whole = facts | {"crc32": _checksum(best.weights, facts)}
    write_bytes(folder / _MODEL, safetensors_bytes(best.weights, whole))


def _checksum(weights: dict[str, Tensor], facts: dict[str, str]) -> str:
    return f"{zlib.crc32(safetensors_bytes(weights, facts)):08x}"
