"""Each method learns what random weights do not know: where in the body a slice lies, however it is turned.

A slice of a phantom has its height in the body for free. Neighbours among upright slices of some patients vote on the
region of slices of others, which are rotated, mirrored and brightened: what contrastive views teach to look through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ctkit.contracts import Ints, Pretraining, Rows
from ctkit.slices.rendering import training
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_models.byol import BYOL, BYOLParams
from ctkit_models.contrastive import Contrastive
from ctkit_models.moco import MoCo, MoCoParams
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_models.swav import SwAV, SwAVParams
from ctkit_phantom.body import LENGTH
from ctkit_tasks.knn import vote
from ctkit_tasks.phantom import turned
from ctkit_torch.backbones import Backbone, load_backbone, random_backbone

SIZE, VIEW = 48, 32  #: sides of stored slices and views, pixels
REGIONS = 6  #: of 100 mm
SEEDS = (42, 43, 44)
MARGIN = 0.05  #: of accuracy, mean over seeds; 0.13 (SimCLR), 0.14 (MoCo), 0.09 (SwAV), 0.10 (BYOL) were seen

#: Each with the parameters that ``ctkit init`` writes.
METHODS = (
    SimCLR(SimCLRParams(**SimCLR.first)),
    MoCo(MoCoParams(**MoCo.first)),
    SwAV(SwAVParams(**SwAV.first)),
    BYOL(BYOLParams(**BYOL.first)),
)


class Scans(NamedTuple):
    """Slices (n, size, size) uint8 and what is known of them."""

    images: NDArray[np.uint8]
    patient: Ints
    region: Ints


def scan(patients: range, slices: int, spacing: float) -> Scans:
    phantom = Phantom(PhantomParams(patients=patients.stop, matrix=96, slices=slices, slice_spacing=spacing))
    volumes = [phantom.volume(number) for number in patients]
    images = [training(phantom.read(volume).values, "HU", "hu-window", SIZE) for volume in volumes]
    height = [phantom.lowest(number) + spacing * np.arange(slices) for number in patients]
    region = (np.concatenate(height) * REGIONS / LENGTH).astype(np.int64)
    return Scans(np.concatenate(images), np.repeat(list(patients), slices), region)


@torch.inference_mode()
def features(backbone: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = torch.from_numpy(images).unsqueeze(1).float() / 255
    pixels = functional.interpolate(pixels, (VIEW, VIEW), mode="bilinear", antialias=True)
    normalised = ((pixels - backbone.mean) / backbone.std).expand(-1, 3, -1, -1)
    return torch.cat([backbone.trunk(part) for part in normalised.split(64)]).numpy()


def accuracy(backbone: Backbone, known: Scans, asked: Scans) -> float:
    """How often five upright neighbours of other patients tell the region of a turned slice."""
    rng = np.random.default_rng(5)
    queries = features(backbone, np.stack([turned(image, rng) for image in asked.images]))
    votes = vote(features(backbone, known.images), known.region, queries, 5, 0.07)
    return float((votes.argmax(axis=1) == asked.region).mean())


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Scans, Scans]:
    """An arm of 32 patients, and upright and asked slices of 20 and 40 others."""
    arm = scan(range(32), 32, 7.5)
    shard = tmp_path_factory.mktemp("store") / "0.npy"
    np.save(shard, arm.images)
    scaled, n = arm.images / 255, len(arm.images)
    rows = Rows(
        (shard,), np.zeros(n, np.int64), np.arange(n), arm.patient, SIZE, float(scaled.mean()), float(scaled.std())
    )
    return rows, scan(range(1000, 1020), 12, 20.0), scan(range(1020, 1060), 12, 20.0)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_features_beat_those_of_random_weights(
    method: Contrastive[Any], patients: tuple[Rows, Scans, Scans], make_job: Callable[..., Pretraining]
) -> None:
    rows, known, asked = patients
    gains = []
    for seed in SEEDS:
        done = method.pretrain(make_job(rows, f"seed-{seed}", seed=seed))
        trained = accuracy(load_backbone(done.backbone), known, asked)
        random = accuracy(random_backbone("resnet18", seed), known, asked)
        print(f"seed {seed}: {trained:.3f}, random weights {random:.3f}")  # noqa: T201  # for -s
        gains.append(trained - random)
    assert min(gains) > 0
    assert np.mean(gains) > MARGIN
