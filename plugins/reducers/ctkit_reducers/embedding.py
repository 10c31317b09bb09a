"""Embeddings: slices are alike when a network sees them alike. With a ResNet-50, the paper's DeepNet.

The network is imported on use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from ctkit.contracts import InputPath, Params, Reducer, Slices, knob
from ctkit_reducers.similarity import Similarity
from ctkit_torch.architectures import check_architecture
from ctkit_torch.weights import faults_of_file, faults_of_library

DECIMALS = 6  #: of a distance, as many as products of float32 vectors are good for, so that equal slices are 0 apart


class NetworkParams(Params):
    """Which network looks at the slices."""

    backbone: InputPath | None = Field(
        None, description="checkpoint of ctkit or of the paper's authors; default: ImageNet weights"
    )
    network: Annotated[str, AfterValidator(check_architecture)] = Field(
        "resnet50",
        description="network with pre-trained weights, if there is no checkpoint: a name of torchvision or timm",
    )
    size: int = Field(224, ge=32, le=1024, description="side that slices are resized to, pixels")


class EmbeddingParams(NetworkParams):
    """Which network looks at the slices, and what counts as alike."""

    threshold: float | None = knob(
        None, low=0, high=2, unit="1 - cosine", description="largest distance between near-duplicates"
    )


N = TypeVar("N", bound=NetworkParams)


class Embedded(Reducer[N]):
    """A reducer whose evidence is a network's features, globally average-pooled and of length 1."""

    shared_evidence = "embedding"
    evidence = "slice"
    device = "accelerator"

    def check(self, device: str | None) -> Iterable[str]:
        """Say why the network's weights cannot be had."""
        path, network = self.params.backbone, self.params.network
        return faults_of_library(network) if path is None else faults_of_file(path)

    def describe(self, slices: Slices) -> NDArray[np.float32]:
        """Features (n, width) of unit length."""
        from ctkit_reducers.features import backbone_on, embed  # brings torch

        found = backbone_on(slices.device, self.params.backbone, self.params.network)
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
