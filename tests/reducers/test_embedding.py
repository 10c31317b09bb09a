from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from torchvision.transforms.v2 import functional as transforms

from ctkit.contracts import Slices
from ctkit.errors import DataError
from ctkit_reducers import features
from ctkit_reducers.embedding import Embedding, EmbeddingParams, cosine_distances
from ctkit_torch.trunks import Trunk

MEAN, STD = 0.1806, 0.1907  # what a checkpoint of the paper's authors is normalised with


def seeded_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 in the layout of torchvision."""
    path = tmp_path_factory.mktemp("backbone") / "resnet18.pt"
    torch.save({"state_dict": seeded_network().state_dict()}, path)
    return path


@pytest.fixture(autouse=True)
def _no_network_is_remembered() -> None:
    features.backbone_on.cache_clear()


def seen(grey: NDArray[np.uint8], device: str = "cpu") -> Slices:
    return Slices(grey, None, np.arange(len(grey)), device)


def forward(grey: NDArray[np.uint8], size: int, mean: float, std: float) -> NDArray[Any]:
    """Unit features of a plain torchvision forward, slice by slice."""
    network = seeded_network()
    network.fc = torch.nn.Identity()
    features = []
    for image in grey:
        rgb = torch.from_numpy(image).float().div(255).expand(3, -1, -1)
        small = transforms.normalize(transforms.resize(rgb, [size, size], antialias=True), [mean] * 3, [std] * 3)
        with torch.no_grad():
            features.append(network(small[None])[0].numpy())
    return np.stack(features) / np.linalg.norm(features, axis=1, keepdims=True)


def test_features_of_a_checkpoint_are_a_plain_torchvision_forwards(
    checkpoint: Path, drifting: NDArray[np.uint8]
) -> None:
    reducer = Embedding(EmbeddingParams(backbone=checkpoint, size=64))
    found = reducer.describe(seen(drifting[:5]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, forward(drifting[:5], 64, MEAN, STD), rtol=0, atol=1e-5)


def test_imagenet_weights_are_used_where_no_checkpoint_is_given(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def weights(self: Any, **options: Any) -> Any:
        asked.update(options, weights=self)
        return seeded_network().state_dict()

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", weights)
    found = Embedding(EmbeddingParams(network="resnet18", size=64)).describe(seen(drifting[:2]))
    np.testing.assert_allclose(found, forward(drifting[:2], 64, 0.449, 0.226), rtol=0, atol=1e-5)
    assert asked["weights"] is torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    assert asked["weights_only"] is True


def test_a_network_of_timm_is_used_with_its_own_normalisation(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    make, asked = timm.create_model, []

    def without_network(name: str, *, pretrained: bool, **options: Any) -> Any:
        asked.append(pretrained)
        torch.manual_seed(1)
        return make(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", without_network)
    found = Embedding(EmbeddingParams(network="resnet10t", size=64)).describe(seen(drifting[:2]))
    plain = without_network("resnet10t", pretrained=True, num_classes=0).eval()
    images = features._prepared(torch.from_numpy(drifting[:2]), 64)
    with torch.inference_mode():
        plainly = plain((images - np.mean([0.485, 0.456, 0.406])) / np.mean([0.229, 0.224, 0.225])).float()
    np.testing.assert_allclose(found, torch.nn.functional.normalize(plainly).numpy(), rtol=0, atol=1e-5)
    assert asked == [True, True]


def test_weights_that_cannot_be_fetched_are_an_error_that_says_what_to_do(
    drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(self: Any, **options: Any) -> Any:
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", unreachable)
    with pytest.raises(DataError, match=r"no route to host.*give the path of a checkpoint"):
        Embedding(EmbeddingParams(network="resnet18")).describe(seen(drifting))


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        EmbeddingParams(network="resnet5")


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_size_changes_nothing_that_matters(
    batch: int, checkpoint: Path, drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    reducer = Embedding(EmbeddingParams(backbone=checkpoint, size=64))
    whole = reducer.describe(seen(drifting[:7]))
    monkeypatch.setattr(features, "BATCH", batch)
    np.testing.assert_allclose(reducer.describe(seen(drifting[:7])), whole, rtol=0, atol=1e-6)


def test_features_are_computed_without_tf32(
    checkpoint: Path, drifting: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []
    forward = Trunk.forward

    def recorded(trunk: Trunk, images: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return forward(trunk, images)

    monkeypatch.setattr(Trunk, "forward", recorded)
    Embedding(EmbeddingParams(backbone=checkpoint, size=64)).describe(seen(drifting[:2]))
    assert allowed == [False]


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives(checkpoint: Path, drifting: NDArray[np.uint8], cuda: str) -> None:
    reducer = Embedding(EmbeddingParams(backbone=checkpoint, size=64))
    found, expected = (cosine_distances(x, x) for x in (reducer.describe(seen(drifting, d)) for d in (cuda, "cpu")))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_distances_are_cosine_distances_and_0_between_equal_slices() -> None:
    from scipy.spatial.distance import cdist

    vectors = np.random.default_rng(0).normal(size=(40, 300))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = cosine_distances(unit[:30], unit)
    np.testing.assert_allclose(found, cdist(unit[:30], unit, "cosine"), rtol=0, atol=2e-6)
    assert (np.diagonal(found) == 0).all()
    assert cosine_distances(unit[:1], -unit[:1]).tolist() == [[2]]
