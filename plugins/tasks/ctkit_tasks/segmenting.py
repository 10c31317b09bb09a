"""Training and use of a segmentation network. All that is drawn is a function of the job's seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ctkit.contracts import Evaluation, Ints, image_of, mask_of
from ctkit.errors import DataError
from ctkit_tasks.augmentation import Sample, augmentation
from ctkit_tasks.epochs import Epoch, OnTrunk, Training, best_epoch, digest, learn, shuffled
from ctkit_tasks.features import mean_std
from ctkit_tasks.overlap import measures
from ctkit_tasks.parts import Part, Parts
from ctkit_tasks.segment_params import SegmentParams
from ctkit_torch.backbones import load_backbone
from ctkit_torch.feature_maps import FeatureMaps
from ctkit_torch.precision import exact_convolutions
from ctkit_torch.preparation import in_threads, normalised, resized
from ctkit_torch.seeding import derived_seed, seeded
from ctkit_torch.trunks import Trunk

BATCH = 16  #: images in one forward pass of prediction
_DECODER = (256, 128, 64, 32, 16)  # channels after each step up, as MONAI's FlexibleUNet
_TRUNK_RATE = 0.1  # of the decoder's learning rate


class Segmenter(OnTrunk):
    """A trunk and MONAI's U-shaped decoder: 8-bit images (n, 1, size, size) -> logits (n, classes, size, size)."""

    def __init__(self, trunk: Trunk, classes: int, size: int, mean: float, std: float) -> None:
        from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder

        maps = FeatureMaps(trunk, size)
        super().__init__(maps)
        self.normalise, scales = partial(normalised, mean=mean, std=std), maps.scales
        channels = _DECODER[: len(scales)]
        self.decoder = UNetDecoder(
            spatial_dims=2,
            encoder_channels=(3, *(scale.channels for scale in scales)),
            decoder_channels=channels,
            act=("relu", {"inplace": True}),
            norm=("batch", {"eps": 1e-3, "momentum": 0.1}),
            dropout=0.0,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=True,
        )
        self.head = SegmentationHead(2, channels[-1], classes, scale_factor=scales[0].stride / 2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes, size, size)."""
        maps = self.trunk(self.normalise(images))
        logits: Tensor = self.head(self.decoder(maps, len(maps) - 1))
        return logits


def segment(
    job: Evaluation, parts: Parts, params: SegmentParams, version: int
) -> tuple[Sequence[dict[str, float]], Sequence[str], Epoch]:
    """Train on ``parts.train``, choose the epoch on ``parts.val``.

    Returns the measures of each test volume, the classes that none of these shows, and that epoch.
    """
    folder = job.folder / f"segment-{digest('segment', job, params.model_dump(), version)[:16]}"
    with seeded(job.seed):  # draws the decoder's first weights
        backbone = load_backbone(job.backbone)
        normalisation = mean_std(job, backbone)
        network = Segmenter(backbone.trunk, len(job.task.classes), params.size, *normalisation).to(job.device)
        best = best_epoch(folder, params.epochs, partial(_Training, network, job, parts, params))
    network.load_state_dict(best.weights)
    measures, shown = zip(*_measured(network.eval(), job, params.size), strict=True)
    absent = set(range(1, len(job.task.classes))).difference(*shown)
    return measures, [job.task.classes[number] for number in sorted(absent)], best


class _Training(Training):
    """One training of a segmenter."""

    def __init__(self, network: Segmenter, job: Evaluation, parts: Parts, params: SegmentParams) -> None:
        from monai.losses import DiceCELoss

        rate, decoder = params.learning_rate, [*network.decoder.parameters(), *network.head.parameters()]
        trunk: dict[str, Any] = {"params": network.trunk.parameters(), "lr": _TRUNK_RATE * rate}
        optimiser = torch.optim.Adam([trunk, {"params": decoder}], lr=rate, weight_decay=params.weight_decay)
        super().__init__(network, optimiser, job)
        self.segmenter, self.params, self.numbers = network, params, parts.train.numbers.tolist()
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
        self.train, self.val = (_prepared(job, part, params.size) for part in (parts.train, parts.val))

    def epoch(self) -> None:
        """Train for an epoch and judge it."""
        epoch, seed, total = self.epochs + 1, self.job.seed, self.params.epochs
        torch.manual_seed(derived_seed(seed, epoch))
        self.segmenter.train_with(frozen_trunk=self.params.trunk == "frozen")
        steps = shuffled(len(self.train), self.params.batch, np.random.default_rng([seed, epoch]))
        for step, (images, masks) in enumerate(self._batches(steps), 1):
            learn(self.segmenter, self.optimiser, images, masks, self.loss)
            self.job.progress(self.epochs * len(steps) + step, total * len(steps))
        self.epochs = epoch
        self.note(*self._judged())

    def _batches(self, steps: Sequence[Ints]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and masks (n, 1, size, size), changed by chance: by the seed, the epoch and the image."""
        change = augmentation(self.params.size)

        def sample(place: int) -> Sample:
            image, mask = torch.from_numpy(self.train[place].copy())
            whole = {"image": image[None], "mask": mask[None]}
            seed = derived_seed(self.job.seed, self.epochs + 1, self.numbers[place])
            return change(whole, seed) if self.params.augment else whole

        for found in in_threads(sample, (step.tolist() for step in steps), self.job.workers):
            images, masks = (torch.stack([one[key] for one in found]).to(self.job.device) for key in ("image", "mask"))
            yield images, masks.long()

    def _judged(self) -> tuple[float, float]:
        """Mean Dice coefficient of the classes over all validation pixels, and mean loss."""
        classes = len(self.job.task.classes)
        counts, loss = np.zeros((classes, classes), np.int64), 0.0
        self.segmenter.eval()
        for start in range(0, len(self.val), BATCH):
            images, masks = torch.from_numpy(self.val[start : start + BATCH]).to(self.job.device).unbind(1)
            masks = masks[:, None].long()
            with torch.inference_mode(), exact_convolutions():
                logits = self.segmenter(images[:, None])
                loss += len(images) * float(self.loss(logits, masks))
            cells = masks[:, 0] * classes + logits.argmax(1)
            counts += torch.bincount(cells.flatten(), minlength=classes**2).view(classes, classes).cpu().numpy()
        sizes = (counts.sum(axis=0) + counts.sum(axis=1))[1:]
        dice = 2 * np.diagonal(counts)[1:][sizes > 0] / sizes[sizes > 0]
        return float(dice.mean()) if len(dice) else 0.0, loss / len(self.val)


def _prepared(job: Evaluation, part: Part, size: int) -> NDArray[np.uint8]:
    """Images and masks (n, 2, size, size) of a part, in a file that goes with them."""

    def read(number: int) -> NDArray[np.uint8]:
        mask = Image.fromarray(mask_of(job.task, part.split, number)).resize((size, size), Image.Resampling.NEAREST)
        return np.stack([_grey(job, part.split, number, size), np.asarray(mask)])

    job.folder.mkdir(parents=True, exist_ok=True)
    chunks = [part.numbers[start : start + BATCH].tolist() for start in range(0, len(part.numbers), BATCH)]
    with TemporaryFile(dir=job.folder) as file:
        for found in in_threads(read, chunks, job.workers):
            file.write(np.stack(found).tobytes())  # not through the map, which a full disk would kill the process by
        file.flush()
        held: NDArray[np.uint8] = np.memmap(file, np.uint8, "r+", shape=(len(part.numbers), 2, size, size))
    return held


def _grey(job: Evaluation, split: str, number: int, size: int) -> NDArray[np.uint8]:
    image = image_of(job.task, split, number)
    if image.ndim == 3:
        raise DataError("segment takes grey images; the task has colour")
    grey: NDArray[np.uint8] = resized(image, size)[0]
    return grey


def _measured(network: nn.Module, job: Evaluation, size: int) -> Iterator[tuple[dict[str, float], set[int]]]:
    """Measures of each test volume, whose slices are segmented at the size of its masks, and the classes it shows."""
    stacks = job.task.splits()["test"].stacks
    for stack, end in zip(stacks, accumulate(stack.slices for stack in stacks), strict=True):
        numbers = range(end - stack.slices, end)
        chunks = [list(numbers[start : start + BATCH]) for start in range(0, len(numbers), BATCH)]
        images = in_threads(partial(_grey, job, "test", size=size), chunks, job.workers)
        truth = np.stack([mask_of(job.task, "test", number) for number in numbers])
        found = [_labelled(network, np.stack(part), truth.shape[1:], job.device) for part in images]
        shown = set(np.flatnonzero(np.bincount(truth.ravel())).tolist())
        yield measures(np.concatenate(found), truth, job.task.classes, stack.spacing), shown


def _labelled(network: nn.Module, images: NDArray[np.uint8], shape: tuple[int, ...], device: str) -> NDArray[np.uint8]:
    """The most probable class of each pixel (n, *shape) of images (n, size, size)."""
    with torch.inference_mode(), exact_convolutions():
        logits = network(torch.from_numpy(images)[:, None].to(device))
        whole = interpolate(logits, shape, mode="bilinear", align_corners=False)
    labels: NDArray[np.uint8] = whole.argmax(1).byte().cpu().numpy()
    return labels
