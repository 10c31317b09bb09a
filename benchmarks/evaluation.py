"""How fast backbones are scored, each against the network's own work on tensors that are ready in memory.

    python benchmarks/evaluation.py [finetune] [linear]

On the CPU a small network on few images, in CPU seconds of one thread, so that a busy machine does not distort the
ratios; on a GPU a ResNet-50 on as many images as OrganSMNIST has, in seconds on the wall.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctkit.contracts import Evaluation, NoParams, Split, Task
from ctkit_tasks.epochs import learn, shuffled
from ctkit_tasks.features import extract
from ctkit_tasks.finetune_params import FinetuneParams
from ctkit_tasks.linear import Linear, LinearParams
from ctkit_tasks.parts import parts_of
from ctkit_tasks.tuning import Classifier, _predicted, _Training
from ctkit_torch.backbones import load_backbone, random_backbone, save_backbone
from ctkit_torch.preparation import normalised

ORGANSMNIST = {"train": 13_932, "val": 2_452, "test": 8_827}
MEAN, STD = 0.5, 0.5


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    network: str
    side: int  #: of an image, pixels
    images: Mapping[str, int]  #: of each split
    epochs: int


SCALES = {
    "cpu": Scale("resnet18", 64, {"train": 512, "val": 64, "test": 256}, 2),
    "cuda": Scale("resnet50", 224, ORGANSMNIST, 2),
}


class Noise(Task[NoParams]):
    """Images of noise in 11 classes, in memory as MedMNIST's are."""

    mean_std = (MEAN, STD)
    classes = tuple(f"organ-{number}" for number in range(11))  # type: ignore[assignment]  # no property is needed

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.images = {
            name: np.random.default_rng(number).integers(0, 256, (count, scale.side, scale.side), dtype=np.uint8)
            for number, (name, count) in enumerate(scale.images.items())
        }

    def splits(self) -> Mapping[str, Split]:
        """The splits of OrganSMNIST, or smaller ones."""
        return {
            name: Split(tuple(f"{name}-{number}" for number in range(len(images))), np.arange(len(images)) % 11)
            for name, images in self.images.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One image (side, side)."""
        image: NDArray[np.uint8] = self.images[split][number]
        return image


def main() -> None:
    """Run the benchmarks that the command line names, or both."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    print(f"{'':62} {'in memory':>10} {'ctkit':>10} {'share':>7}")
    with tempfile.TemporaryDirectory() as folder:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        scale = SCALES[device]
        job = evaluation(Path(folder), scale, device)
        for name in chosen:
            for what, plain, ours, goal in BENCHMARKS[name](job, scale):
                share = plain / ours
                verdict = "reached" if share >= goal else "MISSED"
                print(f"{what:<62} {plain:9.2f}s {ours:9.2f}s {share:7.0%}  (goal {goal:.0%}: {verdict})", flush=True)


def evaluation(folder: Path, scale: Scale, device: str) -> Evaluation:
    """A job with an untrained network on noise: on a GPU with all cores as readers, on the CPU with one."""
    backbone = folder / "backbone.safetensors"
    save_backbone(backbone, random_backbone(scale.network, 0).trunk, mean=MEAN, std=STD, metadata={})
    workers = len(os.sched_getaffinity(0)) if device == "cuda" else 1
    return Evaluation(Noise(scale), backbone, folder, 1.0, 0, device, workers, lambda done, total: None)


# --- finetune -----------------------------------------------------------------------------------------------------


def finetune(job: Evaluation, scale: Scale) -> Iterator[tuple[str, float, float, float]]:
    """Epochs of training and validation, against the same steps on normalised tensors on the device."""
    training = tuning_of(job, scale)
    plain = PlainLoop(classifier_of(job), job, training.params)
    for once in (training.epoch, plain.epoch):
        once()  # warm up
    ours, in_memory = (
        timed(lambda once=once: [once() for _ in range(scale.epochs)], job.device)
        for once in (training.epoch, plain.epoch)
    )
    count = scale.images["train"]
    yield f"finetune, {scale.network}, {count:,} images at {scale.side} px on {job.device}", in_memory, ours, 0.85


def tuning_of(job: Evaluation, scale: Scale) -> _Training:
    """The training of ``finetune`` with nothing frozen, at its start; each ``epoch()`` ends with a validation."""
    params = FinetuneParams(size=scale.side, epochs=scale.epochs + 1, frozen_epochs=0)
    normalise = partial(normalised, mean=MEAN, std=STD)
    return _Training(classifier_of(job), job, parts_of(job), params, normalise)


def classifier_of(job: Evaluation) -> Classifier:
    """The network that is trained, with weights that do not differ from call to call."""
    trunk = load_backbone(job.backbone).trunk
    return Classifier(trunk, len(job.task.classes), np.random.default_rng(0)).to(job.device)


class PlainLoop:
    """What anyone would write with everything in memory: no reading, no mirroring, no choice of an epoch."""

    def __init__(self, classifier: Classifier, job: Evaluation, params: FinetuneParams) -> None:
        splits = job.task.splits()
        self.classifier, self.params = classifier, params
        self.train, self.val = (tensors(job, name) for name in ("train", "val"))
        self.labels = torch.from_numpy(splits["train"].labels).to(job.device)
        self.optimiser = torch.optim.Adam(classifier.parameters(), lr=params.learning_rate)
        self.rng = np.random.default_rng(0)

    def epoch(self) -> None:
        """Train on every image once, and predict the validation images."""
        self.classifier.train()
        for chosen in shuffled(len(self.train), self.params.batch, self.rng):
            learn(self.classifier, self.optimiser, self.train[chosen].expand(-1, 3, -1, -1), self.labels[chosen])
        _predicted(self.classifier, torch.split(self.val, self.params.batch), lambda x: x.expand(-1, 3, -1, -1))


def tensors(job: Evaluation, split: str) -> Tensor:
    """Normalised images (n, 1, side, side) of a split on the device."""
    images = torch.from_numpy(job.task.images[split]) if isinstance(job.task, Noise) else torch.empty(0)
    return images[:, None].to(job.device).float().div(255).sub(MEAN).div(STD)


# --- linear -------------------------------------------------------------------------------------------------------


def linear(job: Evaluation, scale: Scale) -> Iterator[tuple[str, float, float, float]]:
    """Extraction for the first prediction and for five more, against one forward pass over all images."""
    trunk = load_backbone(job.backbone).trunk.to(job.device).eval()

    def forward_pass() -> None:
        with torch.inference_mode():
            for name in job.task.splits():
                for batch in torch.split(tensors(job, name), 64):
                    trunk(batch.expand(-1, 3, -1, -1))

    forward_pass()  # warm up
    in_memory = timed(forward_pass, job.device)
    extractions = [timed(lambda seed=seed: features(job, scale, seed), job.device) for seed in range(6)]
    images = sum(scale.images.values())
    where = f"{scale.network}, {images:,} images at {scale.side} px on {job.device}"
    yield f"features for linear, {where}", in_memory, extractions[0], 0.8
    yield "the same with five repeats of the evaluation", in_memory, sum(extractions), 0.75
    fitting = timed(lambda: Linear(LinearParams(size=scale.side)).predict(job), job.device)
    print(f"  (findings and the logistic regression then take {fitting:.2f} s)")


def features(job: Evaluation, scale: Scale, seed: int) -> None:
    """What ``linear`` fits on, with a seed of the evaluation."""
    parts = parts_of(replace(job, seed=seed))
    extract(job, (parts.train, parts.val, parts.test), scale.side)


# --- what they share ----------------------------------------------------------------------------------------------


def timed(work: Callable[[], Any], device: str) -> float:
    """CPU seconds, or seconds on the wall where a GPU works."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begin = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


BENCHMARKS: dict[str, Callable[[Evaluation, Scale], Iterator[tuple[str, float, float, float]]]] = {
    "finetune": finetune,
    "linear": linear,
}

if __name__ == "__main__":
    main()
