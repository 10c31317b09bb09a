"""Whether a trunk still tells slices apart: spread and rank of its features on slices of the arm, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ctkit.contracts import Ints
from ctkit_models.plan import Plan
from ctkit_models.probing import Look, affordable, features_of
from ctkit_models.slices import Batches
from ctkit_torch.trunks import Trunk

SLICES = 256  #: in the probe at most
FEATURE_STD, EFFECTIVE_RANK = "feature-std", "effective-rank"
LEAST_STD = 0.01  #: of the deviation that features evenly spread over all directions have, below which all coincide
LEAST_RANK = 2.0
JUDGED = 8  #: fewer slices than this have no rank to speak of


class Probe(Look):
    """Measures the features of the same slices again and again, as they are stored: resized, without augmentation."""

    def __init__(self, batches: Batches, plan: Plan, size: int) -> None:
        self._batches = batches
        self._chosen = probe_slices(plan, batches.seed)
        self._size = size
        super().__init__(plan, len(self._chosen))
        self._parts = -(-len(self._chosen) // self._at_a_time)

    def measure(self, trunk: Trunk, device: torch.device) -> dict[str, float]:
        """Feature standard deviation and effective rank of ``trunk``, which is on ``device``."""
        features = features_of(trunk, self._images(trunk.channels, device))
        return {FEATURE_STD: feature_std(features), EFFECTIVE_RANK: effective_rank(features)}

    def _images(self, channels: int, device: torch.device) -> Iterator[Tensor]:
        rows = self._batches.rows
        for part in np.array_split(self._chosen, self._parts):
            images = torch.from_numpy(self._batches.pixels(part)).to(device).unsqueeze(1).float() / 255
            images = (images - rows.mean) / (rows.std or 1.0)
            images = functional.interpolate(images, (self._size, self._size), mode="bilinear", antialias=True)
            yield images.expand(-1, channels, -1, -1)


def probe_slices(plan: Plan, seed: int) -> Ints:
    """Positions of the probe's slices in the arm, the same in every sitting of a training."""
    order = np.random.default_rng([seed, SLICES]).permutation(plan.slices)
    return np.sort(order[: affordable(plan, SLICES)])


def feature_std(features: Tensor) -> float:
    """Mean deviation over the axes of features (n, width) of length 1 (Chen & He 2021); lightly's brings matplotlib."""
    return float(functional.normalize(features, dim=1).std(dim=0).mean())


def effective_rank(features: Tensor) -> float:
    """RankMe (Garrido et al. 2023, equation 1) of features (n, width): exp of the entropy of their singular values.

    Between 1, where all features are multiples of one, and the smaller of n and width. NaN where they are not finite.
    """
    if not torch.isfinite(features).all():
        return float("nan")
    values = torch.linalg.svdvals(features.double())
    p = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + 1e-7
    return float((-(p * p.log()).sum()).exp())


def numbers(measured: Mapping[str, float]) -> bool:
    """Whether the features were finite when ``measured``; their rank has no other reason to be NaN."""
    return not math.isnan(measured.get(EFFECTIVE_RANK, LEAST_RANK))


def collapse(measured: Mapping[str, float], plan: Plan, width: int) -> str | None:
    """A sentence that says by which number a training of ``width`` features collapsed or broke; None where it did not.

    Judged by the last numbers that were ``measured``. Either all features coincide: their standard deviation is next to
    nothing, where features spread over all directions have 1 / sqrt(width) (Chen & He 2021, section 4.1). Or they lie
    along a single direction, dimensional collapse at its worst (Jing et al. 2022), seen by RankMe.
    """
    if not numbers(measured):
        return "the features of the backbone are NaN or infinite"
    std, rank = measured.get(FEATURE_STD, 1.0), measured.get(EFFECTIVE_RANK, LEAST_RANK)
    if std < LEAST_STD * width**-0.5:
        spread = f"the standard deviation of its normalised features is {std:.2g}, spread ones have {width**-0.5:.2g}"
        return f"the training collapsed, all slices have nearly the same features: {spread}"
    if rank < LEAST_RANK and plan.slices >= JUDGED:
        return f"the training collapsed, its features have one direction: their effective rank is {rank:.2f}"
    return None
