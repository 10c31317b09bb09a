"""The training loop of fine-tuning. Order, mirroring and the layer's first weights are functions of the job's seed."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ctkit import stopping
from ctkit.contracts import Evaluation, Floats, image_of
from ctkit.files import write_bytes
from ctkit_tasks.augmentation import augmentation
from ctkit_tasks.features import BATCH, mean_std
from ctkit_tasks.finetune_params import FinetuneParams
from ctkit_tasks.linear import log_loss
from ctkit_tasks.parts import Part, Parts
from ctkit_torch.backbones import load_backbone, read_safetensors, safetensors_bytes
from ctkit_torch.checkpoints import Checkpoints
from ctkit_torch.precision import exact_convolutions, has_bf16
from ctkit_torch.preparation import batches, in_threads, normalised, together
from ctkit_torch.seeding import derived_seed, seeded
from ctkit_torch.trunks import Trunk

CHECKPOINT_SECONDS = 600.0  #: between checkpoints of a training
_MODEL = "model.safetensors"

log = logging.getLogger(__name__)

Normalise = Callable[[Tensor], Tensor]  # 8-bit images to what the trunk sees


@dataclass(frozen=True)
class Tuned:
    """What the best epoch gives."""

    probabilities: Floats  #: (n, classes) for the test images
    epoch: int  #: counted from 1
    accuracy: float  #: on the validation images


class Classifier(nn.Module):
    """A trunk and one linear layer: normalised images (n, 3, height, width) -> logits (n, classes)."""

    def __init__(self, trunk: Trunk, classes: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.trunk = trunk
        self.layer = nn.Linear(trunk.width, classes, device="meta").to_empty(device="cpu")
        bound = 1 / math.sqrt(trunk.width)  # as torch initialises a linear layer
        for weight in self.layer.parameters():
            weight.data.copy_(torch.from_numpy(rng.uniform(-bound, bound, weight.shape)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.layer(self.trunk(images))
        return logits

    def train_with(self, *, frozen_trunk: bool) -> None:
        """Enter training mode; a frozen trunk takes no gradient and keeps its batch statistics."""
        self.train()
        self.trunk.train(not frozen_trunk)
        self.trunk.requires_grad_(not frozen_trunk)


@dataclass(frozen=True)
class Epoch:
    """A classifier as it was after an epoch."""

    number: int  #: counted from 1
    accuracy: float  #: on the validation images
    loss: float
    weights: dict[str, Tensor]

    def beats(self, other: Epoch | None) -> bool:
        """More accurate, or as accurate and of lower loss."""
        return other is None or (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def tune(job: Evaluation, parts: Parts, params: FinetuneParams, version: int) -> Tuned:
    """Train on ``parts.train``, choose the epoch on ``parts.val``, predict ``parts.test``.

    The chosen model stays in the job's folder, as ``model.safetensors``; there, a killed training goes on from its last
    checkpoint, as if it had not been stopped.
    """
    folder = job.folder / f"finetune-{_digest(job, params, version)[:16]}"
    with seeded(job.seed):  # some networks draw: which units or paths to drop
        backbone = load_backbone(job.backbone)
        mean, std = mean_std(job, backbone)
        normalise = partial(normalised, mean=mean, std=std)
        rng = np.random.default_rng(job.seed)
        classifier = Classifier(backbone.trunk, len(job.task.classes), rng).to(job.device)
        best = _kept_model(folder) or _train(classifier, job, parts, params, normalise, folder)
    classifier.load_state_dict(best.weights)
    test = _read(job, parts.test, params.size)
    return Tuned(_predicted(classifier, test, normalise), best.number, best.accuracy)


def _digest(job: Evaluation, params: FinetuneParams, version: int) -> str:
    """SHA-256, in hex digits, of all that a model depends on beside the backbone and the task of its folder."""
    chosen = params.model_dump(exclude=None if params.augment else {"augment"})  # as before it was there
    made_of = {"version": version, "params": chosen, "labels": job.labels, "seed": job.seed}
    text = json.dumps({"stage": "finetune", **made_of}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _train(
    classifier: Classifier, job: Evaluation, parts: Parts, params: FinetuneParams, normalise: Normalise, folder: Path
) -> Epoch:
    """Train what is left after the last checkpoint; the best epoch is kept in ``folder`` and returned.

    Raises ``KeyboardInterrupt`` after the checkpoint of an epoch where the run is to stop.
    """
    training = _Training(classifier, job, parts, params, normalise)
    checkpoints = Checkpoints(folder)
    training.resume(checkpoints.newest())
    saved = time.monotonic()
    while training.epochs < params.epochs:
        training.epoch()
        due = stopping.asked() or time.monotonic() - saved >= CHECKPOINT_SECONDS
        if due and training.epochs < params.epochs:
            checkpoints.save(training.state(), training.epochs)
            saved = time.monotonic()
            stopping.check()
    assert training.best is not None
    _keep_model(folder, training.best)
    checkpoints.remove()
    return training.best


class _Training:
    """One fine-tuning; its state is the classifier's, the optimiser's and the best epoch's."""

    def __init__(
        self, classifier: Classifier, job: Evaluation, parts: Parts, params: FinetuneParams, normalise: Normalise
    ) -> None:
        self.classifier, self.job, self.params, self.normalise = classifier, job, params, normalise
        self.train = (_in_memory if params.augment else _held)(job, parts.train, params.size)
        self.val = _held(job, parts.val, params.size)
        self.numbers = parts.train.numbers.tolist()
        self.labels = torch.from_numpy(parts.train.labels)
        self.val_labels = parts.val.labels
        self.optimiser = torch.optim.Adam(
            [{"params": classifier.trunk.parameters()}, {"params": classifier.layer.parameters()}],
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
        )
        self.epochs = 0
        self.best: Epoch | None = None

    def state(self) -> dict[str, Any]:
        """All that a later process needs."""
        assert self.best is not None
        weights, optimiser = self.classifier.state_dict(), self.optimiser.state_dict()
        return {"epochs": self.epochs, "weights": weights, "optimiser": optimiser, "best": vars(self.best)}

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on from a state, if there is one."""
        if state is not None:
            self.epochs, self.best = state["epochs"], Epoch(**state["best"])
            self.classifier.load_state_dict(state["weights"])
            self.optimiser.load_state_dict(state["optimiser"])

    def epoch(self) -> None:
        """Train for an epoch and judge it. What is drawn is a function of the seed and the epoch."""
        rng = np.random.default_rng([self.job.seed, self.epochs + 1])
        torch.manual_seed(derived_seed(self.job.seed, self.epochs + 1))
        self.classifier.train_with(frozen_trunk=self.epochs < self.params.frozen_epochs)
        steps = self._steps(rng)
        seen = self._augmented if self.params.augment else self._plain
        images = seen([numbers for numbers, *_ in steps])
        for step, (_, labels, mirrored) in enumerate(steps, 1):
            _learn(self.classifier, self.optimiser, self.normalise(_mirrored(next(images), mirrored)), labels)
            self.job.progress(self.epochs * len(steps) + step, self.params.epochs * len(steps))
        self.epochs += 1
        self._judge()

    def _steps(self, rng: np.random.Generator) -> list[tuple[Tensor, ...]]:
        """For each step its images' numbers (n,), labels (n,), and whether to mirror them (n,).

        They are brought to the device for all steps at once, as every transfer waits for what it is doing.
        """
        parts = _batches(len(self.labels), self.params.batch, rng)
        numbers = torch.from_numpy(np.concatenate(parts))
        mirrored = torch.from_numpy(rng.random(len(numbers)) < self.params.flip)
        drawn = numbers.to(self.train.device), self.labels[numbers].to(self.job.device), mirrored.to(self.job.device)
        return list(zip(*(torch.split(each, [len(part) for part in parts]) for each in drawn), strict=True))

    def _plain(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield for each step its images (n, channels, size, size), by their numbers."""
        return (self.train[numbers].to(self.job.device) for numbers in steps)

    def _augmented(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        """As ``_plain``, changed by chance: a function of the seed, the epoch and the number in the task's split."""
        change, epoch = augmentation(self.params.size), self.epochs + 1

        def changed(number: int) -> Tensor:
            return change(self.train[number], derived_seed(self.job.seed, epoch, self.numbers[number]))

        parts = in_threads(changed, (numbers.tolist() for numbers in steps), self.job.workers)
        return (torch.stack(part).to(self.job.device) for part in parts)

    def _judge(self) -> None:
        probabilities = _predicted(self.classifier, torch.split(self.val, BATCH), self.normalise)
        accuracy = float((probabilities.argmax(axis=1) == self.val_labels).mean())
        now = Epoch(self.epochs, accuracy, log_loss(probabilities, self.val_labels), self.classifier.state_dict())
        if now.beats(self.best):
            self.best = replace(now, weights=copy.deepcopy(now.weights))


def _kept_model(folder: Path) -> Epoch | None:
    """The model that an earlier fine-tuning left; None where there is none, or it is damaged."""
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


def _learn(classifier: Classifier, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """Take one step of the optimiser; on a GPU that has it in bfloat16, whose range needs no scaling of the loss."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda and has_bf16()):
        loss = cross_entropy(classifier(images), labels)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
    optimiser.step()


def _predicted(classifier: Classifier, images: Iterable[Tensor], normalise: Normalise) -> Floats:
    """Probabilities (n, classes), computed in float32, for batches of 8-bit images."""
    classifier.eval()
    device = next(classifier.parameters()).device
    with torch.inference_mode(), exact_convolutions():
        rows = [classifier(normalise(batch.to(device))).double().softmax(dim=1).cpu().numpy() for batch in images]
    return np.concatenate(rows)


def _held(job: Evaluation, part: Part, size: int) -> Tensor:
    """All images of a part in memory, 8 bits a value: the GPU's where they take at most a quarter of what is free."""
    images = _in_memory(job, part, size)
    if torch.device(job.device).type != "cuda":
        return images
    torch.cuda.empty_cache()  # what torch keeps for itself would not count as free
    free, _ = torch.cuda.mem_get_info()
    return images.to(job.device) if 4 * images.nbytes < free else images


def _in_memory(job: Evaluation, part: Part, size: int) -> Tensor:
    return together(_read(job, part, size))


def _read(job: Evaluation, part: Part, size: int) -> Iterator[Tensor]:
    read = partial(image_of, job.task, part.split)
    return batches(read, part.numbers, size=size, batch=BATCH, workers=job.workers)


def _batches(count: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Shuffle ``count`` numbers into batches of nearly equal size, none of one image: it has no batch statistics."""
    return np.array_split(rng.permutation(count), min(math.ceil(count / size), count // 2))


def _mirrored(images: Tensor, mirrored: Tensor) -> Tensor:
    """Images (n, channels, height, width), those left to right that ``mirrored`` (n,) says."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
