"""Embeddings: slices are alike when a network sees them alike. With a ResNet-50, the paper's DeepNet."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional

from ctkit.contracts import InputPath, Params, Reducer, Slices, knob
from ctkit.errors import DataError
from ctkit_reducers.similarity import Similarity
from ctkit_torch.architectures import TORCHVISION, check_architecture
from ctkit_torch.backbones import Backbone, load_backbone
from ctkit_torch.precision import exact_convolutions
from ctkit_torch.trunks import Trunk, build_trunk, timm_width

BATCH = 64  #: slices in one forward pass
DECIMALS = 6  #: of a distance, as many as products of float32 vectors are good for, so that equal slices are 0 apart
IMAGENET_MEAN_STD = (0.449, 0.226)  #: the means over the three channels that the weights were trained with


class NetworkParams(Params):
    """Which network looks at the slices."""

    backbone: InputPath | None = Field(
        None, description="checkpoint that ctkit trained or the paper's authors released; ImageNet weights if left out"
    )
    network: Annotated[str, AfterValidator(check_architecture)] = Field(
        "resnet50",
        description="network with weights of its own, where there is no checkpoint: a name of torchvision or timm",
    )
    size: int = Field(224, ge=32, le=1024, description="side that slices are resized to, pixels")


class EmbeddingParams(NetworkParams):
    """Which network looks at the slices, and what counts as alike."""

    threshold: float | None = knob(
        None, low=0, high=2, unit="1 - cosine", description="greatest distance to the slice that another is alike to"
    )


N = TypeVar("N", bound=NetworkParams)


class Embedded(Reducer[N]):
    """A reducer whose evidence is a network's features, globally average-pooled and of length 1."""

    shared_evidence = "embedding"
    evidence = "slice"
    device = "accelerator"

    def describe(self, slices: Slices) -> NDArray[np.float32]:
        """Features (n, width) of unit length."""
        found = _backbone(self.params.backbone, self.params.network, slices.device)
        return embed(found, slices.grey, self.params.size, slices.device)


class Embedding(Embedded[EmbeddingParams], Similarity[EmbeddingParams]):
    """Drop a slice when the cosine distance of its features to an earlier kept one's is at most ``threshold``."""

    def distances(self, some: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine distances (m, n) between features of unit length."""
        return cosine_distances(some, many)


def cosine_distances(some: NDArray[np.float32], many: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine distances (m, n) between vectors (m, width) and (n, width) of unit length, in 0..2."""
    apart = np.round(1 - some @ many.T, DECIMALS)
    return np.clip(apart, 0, 2, out=apart)


def embed(backbone: Backbone, grey: NDArray[np.uint8], size: int, device: str) -> NDArray[np.float32]:
    """Features (n, width) of unit length of slices (n, rows, columns), by a backbone that is on ``device``."""
    features = np.empty((len(grey), backbone.trunk.width), np.float32)
    with torch.inference_mode(), exact_convolutions():
        for start in range(0, len(grey), BATCH):
            images = _prepared(torch.from_numpy(grey[start : start + BATCH]).to(device), size)
            seen = backbone.trunk((images - backbone.mean) / backbone.std)
            features[start : start + BATCH] = functional.normalize(seen.float()).cpu().numpy()
    return features


def _prepared(grey: Tensor, size: int) -> Tensor:
    """(n, 3, size, size) in 0..1 of slices (n, rows, columns) in 0..255."""
    images = grey[:, None].float() / 255
    images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.expand(-1, 3, -1, -1)


@lru_cache(maxsize=1)
def _backbone(path: Path | None, network: str, device: str) -> Backbone:
    if path is not None:
        found = load_backbone(path)
    else:
        found = _of_torchvision(network) if network in TORCHVISION else _of_timm(network)
    found.trunk.to(device)
    return found


def _of_timm(network: str) -> Backbone:
    """Take timm's weights. Raises ``DataError`` where there are none, or they cannot be fetched."""
    try:
        import timm

        model: Any = timm.create_model(network, pretrained=True, num_classes=0)
    except Exception as error:  # timm and its hub raise many kinds
        raise DataError(_unreachable(network, error), retry=True) from error
    means, deviations = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    trunk = Trunk(model.eval(), network, timm_width(model))
    return Backbone(trunk, network, float(np.mean(means)), float(np.mean(deviations)))


def _unreachable(network: str, error: Exception) -> str:
    return (
        f"cannot fetch the weights of {network} ({error}); "
        "give the path of a checkpoint as `backbone`, or fetch them once on this machine"
    )


def _of_torchvision(network: str) -> Backbone:
    """Take the first ImageNet weights of torchvision: the second were trained with smoothing that blurs features.

    Raises ``DataError`` where they are not at hand and cannot be fetched.
    """
    import torchvision

    weights = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"]
    try:
        values = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(_unreachable(network, error), retry=True) from error
    trunk = build_trunk(network)
    trunk.load({name: values[name] for name in trunk.weights()})
    return Backbone(trunk.eval(), network, *IMAGENET_MEAN_STD)
