"""Features of a frozen trunk, extracted once for all that is fitted on them, in blocks that outlive a kill."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ctkit import stopping
from ctkit.contracts import Evaluation, Ints, image_of
from ctkit.files import read_sealed, writing
from ctkit_tasks.parts import Part
from ctkit_torch.backbones import Backbone, load_backbone
from ctkit_torch.precision import exact_convolutions
from ctkit_torch.preparation import batches, normalised

BATCH = 64  #: images in one forward pass
BLOCK = 2048  #: images in one file
_KIND = "features-2"  # raise the number when features change

log = logging.getLogger(__name__)


def extract(job: Evaluation, parts: Sequence[Part], size: int, batch: int = BATCH) -> list[NDArray[np.float32]]:
    """Features (n, width) of each part's images at ``size`` pixels, in float32, on a GPU too.

    They are extracted for whole splits, so that they do not depend on which images are asked for first, and kept in
    the job's folder: protocols, shares of the labels and repeats of the evaluation share them. Raises
    ``KeyboardInterrupt`` between two blocks where the run is to stop.
    """
    splits = job.task.splits()
    wanted = {part.split: len(splits[part.split].names) for part in parts}
    extraction = _Extraction(job, size, batch, sum(wanted.values()))
    features = {split: extraction.of(split, count) for split, count in wanted.items()}
    return [features[part.split][part.numbers] for part in parts]


def mean_std(job: Evaluation, backbone: Backbone) -> tuple[float, float]:
    """How images are normalised: as the task says, else as the backbone was trained."""
    return job.task.mean_std or (backbone.mean, backbone.std)


@dataclass
class _Extraction:
    """Extracts what is not in the job's folder yet."""

    job: Evaluation
    size: int
    batch: int
    total: int
    done: int = 0

    @cached_property
    def backbone(self) -> Backbone:
        backbone = load_backbone(self.job.backbone)
        backbone.trunk.to(self.job.device).eval()
        return backbone

    def of(self, split: str, count: int) -> NDArray[np.float32]:
        """Features (count, width) of a split."""
        starts = range(0, count, BLOCK)
        blocks = [self._block(split, np.arange(start, min(start + BLOCK, count))) for start in starts]
        return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)

    def _block(self, split: str, numbers: Ints) -> NDArray[np.float32]:
        path = self.job.folder / f"{_KIND}-{self.size}" / f"{split}-{numbers[0] // BLOCK:05d}.npy"
        block = _kept(path, len(numbers))
        if block is None:
            block = self._extracted(split, numbers)
            with writing(path, sealed=True) as temporary, temporary.open("wb") as file:
                np.save(file, block)
            stopping.check()
        else:
            self._advance(len(numbers))
        return block

    def _extracted(self, split: str, numbers: Ints) -> NDArray[np.float32]:
        mean, std = mean_std(self.job, self.backbone)
        read = partial(image_of, self.job.task, split)
        rows: list[NDArray[np.float32]] = []
        for images in batches(read, numbers, size=self.size, batch=self.batch, workers=self.job.workers):
            with torch.inference_mode(), exact_convolutions():
                features = self.backbone.trunk(normalised(images.to(self.job.device), mean, std))
            rows.append(features.float().cpu().numpy())
            self._advance(len(images))
        return np.concatenate(rows)

    def _advance(self, images: int) -> None:
        self.done += images
        self.job.progress(self.done, self.total)


def _kept(path: Path, count: int) -> NDArray[np.float32] | None:
    """A block that was extracted before; None where there is none, or it is damaged."""
    if not path.exists():
        return None
    if read_sealed(path):
        block: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return block if len(block) == count else None
    log.warning("kept features are damaged and will be rebuilt")
    return None
