"""The training loop of fine-tuning. Order, mirroring and the layer's first weights are functions of the job's seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ctkit.contracts import Evaluation, Floats, image_of
from ctkit_tasks.augmentation import augmentation
from ctkit_tasks.epochs import Epoch, OnTrunk, Training, best_epoch, digest, learn, shuffled
from ctkit_tasks.features import BATCH, mean_std
from ctkit_tasks.finetune_params import FinetuneParams
from ctkit_tasks.linear import log_loss
from ctkit_tasks.parts import Part, Parts
from ctkit_torch.backbones import load_backbone
from ctkit_torch.precision import exact_convolutions
from ctkit_torch.preparation import batches, in_threads, normalised, together
from ctkit_torch.seeding import derived_seed, seeded
from ctkit_torch.trunks import Trunk

Normalise = Callable[[Tensor], Tensor]  # 8-bit images to what the trunk sees


class Classifier(OnTrunk):
    """A trunk and one linear layer: normalised images (n, 3, height, width) -> logits (n, classes)."""

    def __init__(self, trunk: Trunk, classes: int, rng: np.random.Generator) -> None:
        super().__init__(trunk)
        self.layer = nn.Linear(trunk.width, classes, device="meta").to_empty(device="cpu")
        bound = 1 / math.sqrt(trunk.width)  # as torch initialises a linear layer
        for weight in self.layer.parameters():
            weight.data.copy_(torch.from_numpy(rng.uniform(-bound, bound, weight.shape)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.layer(self.trunk(images))
        return logits


def tune(job: Evaluation, parts: Parts, params: FinetuneParams, version: int) -> tuple[Floats, Epoch]:
    """Train on ``parts.train``, choose the epoch on ``parts.val``; probabilities of ``parts.test``, and that epoch.

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
        best = best_epoch(folder, params.epochs, partial(_Training, classifier, job, parts, params, normalise))
    classifier.load_state_dict(best.weights)
    return _predicted(classifier, _read(job, parts.test, params.size), normalise), best


def _digest(job: Evaluation, params: FinetuneParams, version: int) -> str:
    chosen = params.model_dump(exclude=None if params.augment else {"augment"})  # as before it was there
    return digest("finetune", job, chosen, version)


class _Training(Training):
    """One fine-tuning."""

    def __init__(
        self, classifier: Classifier, job: Evaluation, parts: Parts, params: FinetuneParams, normalise: Normalise
    ) -> None:
        self.classifier, self.params, self.normalise = classifier, params, normalise
        self.train = _held(job, parts.train, params.size, on_gpu=not params.augment)
        self.val = _held(job, parts.val, params.size)
        self.numbers = parts.train.numbers.tolist()
        self.labels = torch.from_numpy(parts.train.labels)
        self.val_labels = parts.val.labels
        optimiser = torch.optim.Adam(
            [{"params": classifier.trunk.parameters()}, {"params": classifier.layer.parameters()}],
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
        )
        super().__init__(classifier, optimiser, job)

    def epoch(self) -> None:
        """Train for an epoch and judge it. What is drawn is a function of the seed and the epoch."""
        rng = np.random.default_rng([self.job.seed, self.epochs + 1])
        torch.manual_seed(derived_seed(self.job.seed, self.epochs + 1))
        self.classifier.train_with(frozen_trunk=self.epochs < self.params.frozen_epochs)
        steps = self._steps(rng)
        images = self._images([numbers for numbers, *_ in steps])
        for step, (_, labels, mirrored) in enumerate(steps, 1):
            learn(self.classifier, self.optimiser, self.normalise(_mirrored(next(images), mirrored)), labels)
            self.job.progress(self.epochs * len(steps) + step, self.params.epochs * len(steps))
        self.epochs += 1
        self._judge()

    def _steps(self, rng: np.random.Generator) -> list[tuple[Tensor, ...]]:
        """For each step its images' numbers (n,), labels (n,), and whether to mirror them (n,).

        They are brought to the device for all steps at once, as every transfer waits for what it is doing.
        """
        parts = shuffled(len(self.labels), self.params.batch, rng)
        numbers = torch.from_numpy(np.concatenate(parts))
        mirrored = torch.from_numpy(rng.random(len(numbers)) < self.params.flip)
        drawn = numbers.to(self.train.device), self.labels[numbers].to(self.job.device), mirrored.to(self.job.device)
        return list(zip(*(torch.split(each, [len(part) for part in parts]) for each in drawn), strict=True))

    def _images(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield for each step its images (n, channels, size, size), by their numbers.

        If asked, they are changed by chance: a function of the seed, the epoch and the number in the task's split.
        """
        if not self.params.augment:
            return (self.train[numbers].to(self.job.device) for numbers in steps)
        change, epoch = augmentation(self.params.size), self.epochs + 1

        def changed(number: int) -> Tensor:
            sample = {"image": self.train[number]}
            return change(sample, derived_seed(self.job.seed, epoch, self.numbers[number]))["image"]

        parts = in_threads(changed, (numbers.tolist() for numbers in steps), self.job.workers)
        return (torch.stack(part).to(self.job.device) for part in parts)

    def _judge(self) -> None:
        probabilities = _predicted(self.classifier, torch.split(self.val, BATCH), self.normalise)
        accuracy = float((probabilities.argmax(axis=1) == self.val_labels).mean())
        self.note(accuracy, log_loss(probabilities, self.val_labels))


def _predicted(classifier: Classifier, images: Iterable[Tensor], normalise: Normalise) -> Floats:
    """Probabilities (n, classes), computed in float32, for batches of 8-bit images."""
    classifier.eval()
    device = next(classifier.parameters()).device
    with torch.inference_mode(), exact_convolutions():
        rows = [classifier(normalise(batch.to(device))).double().softmax(dim=1).cpu().numpy() for batch in images]
    return np.concatenate(rows)


def _held(job: Evaluation, part: Part, size: int, *, on_gpu: bool = True) -> Tensor:
    """All images of a part in memory, 8 bits a value: the GPU's where they take at most a quarter of what is free."""
    images = together(_read(job, part, size))
    if not on_gpu or torch.device(job.device).type != "cuda":
        return images
    torch.cuda.empty_cache()  # what torch keeps for itself would not count as free
    free, _ = torch.cuda.mem_get_info()
    return images.to(job.device) if 4 * images.nbytes < free else images


def _read(job: Evaluation, part: Part, size: int) -> Iterator[Tensor]:
    read = partial(image_of, job.task, part.split)
    return batches(read, part.numbers, size=size, batch=BATCH, workers=job.workers)


def _mirrored(images: Tensor, mirrored: Tensor) -> Tensor:
    """Images (n, channels, height, width), those left to right that ``mirrored`` (n,) says."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
