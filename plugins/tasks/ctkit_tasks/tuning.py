"""The training loop of fine-tuning. Order, mirroring and the layer's first weights are functions of the job's seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ctkit.contracts import Evaluation, Floats
from ctkit_models.backbones import load_backbone
from ctkit_models.seeding import seeded
from ctkit_models.trunks import Trunk
from ctkit_tasks.features import BATCH, mean_std
from ctkit_tasks.finetune import FinetuneParams
from ctkit_tasks.linear import log_loss
from ctkit_tasks.parts import Part, Parts
from ctkit_tasks.preparation import batches, normalised, together

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


def tune(job: Evaluation, parts: Parts, params: FinetuneParams) -> Tuned:
    """Train on ``parts.train``, choose the epoch on ``parts.val``, predict ``parts.test``."""
    with seeded(job.seed):  # some networks draw: which units or paths to drop
        backbone = load_backbone(job.backbone)
        mean, std = mean_std(job, backbone)
        normalise = partial(normalised, mean=mean, std=std)
        rng = np.random.default_rng(job.seed)
        classifier = Classifier(backbone.trunk, len(job.task.classes), rng).to(job.device)
        epochs = _epochs(classifier, job, parts, params, normalise, rng)
        best = max(epochs, key=lambda epoch: (epoch.accuracy, -epoch.loss))
    classifier.load_state_dict(best.weights)
    test = _read(job, parts.test, params.size)
    return Tuned(_predicted(classifier, test, normalise), best.number, best.accuracy)


def _epochs(
    classifier: Classifier,
    job: Evaluation,
    parts: Parts,
    params: FinetuneParams,
    normalise: Normalise,
    rng: np.random.Generator,
) -> Iterator[Epoch]:
    train, val = (together(_read(job, part, params.size)) for part in (parts.train, parts.val))
    labels = torch.from_numpy(parts.train.labels).to(job.device)
    optimiser = torch.optim.Adam(
        [{"params": classifier.trunk.parameters()}, {"params": classifier.layer.parameters()}],
        lr=params.learning_rate,
        weight_decay=params.weight_decay,
    )
    for epoch in range(params.epochs):
        classifier.train_with(frozen_trunk=epoch < params.frozen_epochs)
        order = _batches(len(labels), params.batch, rng)
        for step, chosen in enumerate(order, 1):
            images = _mirrored(train[chosen], params.flip, rng).to(job.device)
            _learn(classifier, optimiser, normalise(images), labels[chosen])
            job.progress(epoch * len(order) + step, params.epochs * len(order))
        probabilities = _predicted(classifier, torch.split(val, BATCH), normalise)
        accuracy = float((probabilities.argmax(axis=1) == parts.val.labels).mean())
        loss = log_loss(probabilities, parts.val.labels)
        yield Epoch(epoch + 1, accuracy, loss, copy.deepcopy(classifier.state_dict()))


def _learn(classifier: Classifier, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """Take one step of the optimiser; on a GPU in bfloat16, whose range needs no scaling of the loss."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
        loss = cross_entropy(classifier(images), labels)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
    optimiser.step()


def _predicted(classifier: Classifier, images: Iterable[Tensor], normalise: Normalise) -> Floats:
    """Probabilities (n, classes) in full precision for batches of 8-bit images."""
    classifier.eval()
    device = next(classifier.parameters()).device
    with torch.inference_mode():
        rows = [classifier(normalise(batch.to(device))).double().softmax(dim=1).cpu().numpy() for batch in images]
    return np.concatenate(rows)


def _read(job: Evaluation, part: Part, size: int) -> Iterator[Tensor]:
    read = partial(job.task.image, part.split)
    return batches(read, part.numbers, size=size, batch=BATCH, workers=job.workers)


def _batches(count: int, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Shuffle ``count`` numbers into batches of nearly equal size, none of one image: it has no batch statistics."""
    return np.array_split(rng.permutation(count), min(math.ceil(count / size), count // 2))


def _mirrored(images: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    mirrored = torch.from_numpy(rng.random(len(images)) < probability)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
