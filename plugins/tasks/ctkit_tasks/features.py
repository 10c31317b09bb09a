"""Features of a frozen trunk, extracted once for all that is fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ctkit.contracts import Evaluation
from ctkit_models.backbones import Backbone, load_backbone
from ctkit_tasks.parts import Part
from ctkit_tasks.preparation import batches, normalised

BATCH = 64  #: images in one forward pass


def extract(job: Evaluation, parts: Sequence[Part], size: int, batch: int = BATCH) -> list[NDArray[np.float32]]:
    """Features (n, width) of each part's images at ``size`` pixels, in full precision."""
    backbone = load_backbone(job.backbone)
    trunk = backbone.trunk.to(job.device).eval()
    mean, std = mean_std(job, backbone)
    total = sum(len(part.numbers) for part in parts)
    done = 0
    found = []
    for part in parts:
        rows: list[NDArray[np.float32]] = []
        read = partial(job.task.image, part.split)
        for images in batches(read, part.numbers, size=size, batch=batch, workers=job.workers):
            with torch.inference_mode():
                rows.append(trunk(normalised(images.to(job.device), mean, std)).float().cpu().numpy())
            done += len(images)
            job.progress(done, total)
        found.append(np.concatenate(rows))
    return found


def mean_std(job: Evaluation, backbone: Backbone) -> tuple[float, float]:
    """How images are normalised: as the task says, else as the backbone was trained."""
    return job.task.mean_std or (backbone.mean, backbone.std)
