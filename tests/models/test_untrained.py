from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from ctkit.contracts import Pretraining
from ctkit.errors import DataError
from ctkit.testing import check_method, samples
from ctkit_models.engine import _initial_trunk
from ctkit_models.simclr import SimCLR
from ctkit_models.untrained import Untrained, UntrainedParams
from ctkit_torch.backbones import load_backbone, random_backbone, save_backbone
from ctkit_torch.seeding import seeded

Job = Callable[..., Pretraining]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    def make(seed: int = 3) -> Pretraining:
        rows = samples.rows(tmp_path)
        return Pretraining(rows, seed, "cpu", 0, tmp_path, {"arm": "a"}, lambda *_: None, lambda *_: None)

    return make


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "given.safetensors"
    save_backbone(path, random_backbone("resnet18", 9).trunk, mean=0.1, std=0.4, metadata={})
    return path


def test_given_weights_conform(given: Path) -> None:
    check_method(Untrained, UntrainedParams(backbone="resnet18", init=given))


def test_random_weights_are_those_that_pre_training_starts_from(job: Job) -> None:
    found = load_backbone(Untrained(UntrainedParams(backbone="resnet18")).pretrain(job()).backbone)
    with seeded(3):
        start = _initial_trunk(SimCLR.params_type(backbone="resnet18", steps=1))
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            found.trunk(images.expand(-1, 3, -1, -1)), start.eval()(images), rtol=1e-4, atol=1e-5
        )


def test_random_weights_see_the_grey_levels_of_the_reference_arm(job: Job) -> None:
    found = load_backbone(Untrained(UntrainedParams(backbone="resnet18")).pretrain(job()).backbone)
    rows = job().rows
    assert (found.mean, found.std) == pytest.approx((rows.mean, rows.std))


def test_given_weights_stay_as_they_are(job: Job, given: Path) -> None:
    made = Untrained(UntrainedParams(backbone="resnet18", init=given)).pretrain(job())
    assert made.steps == 0
    found, original = load_backbone(made.backbone), load_backbone(given)
    assert (found.mean, found.std) == (0.1, 0.4)
    assert all(torch.equal(weight, original.trunk.weights()[name]) for name, weight in found.trunk.weights().items())


def test_the_weights_of_imagenet_are_given_as_torchvisions_file(job: Job, tmp_path: Path) -> None:
    weights = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    params = UntrainedParams(backbone="resnet18", init=tmp_path / "resnet18.pth", mean_std=(0.449, 0.226))
    found = load_backbone(Untrained(params).pretrain(job()).backbone)
    assert (found.mean, found.std) == (0.449, 0.226)
    assert torch.equal(found.trunk.weights()["conv1.weight"], weights["conv1.weight"])


@pytest.mark.parametrize("name", ["convnext_tiny", "vit_b_32"])
def test_torchvisions_files_of_other_networks_than_resnets_are_taken(name: str, tmp_path: Path) -> None:
    network = torchvision.models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "imagenet.pth")
    trunk = load_backbone(tmp_path / "imagenet.pth", name).trunk
    head = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(head(trunk(images)), network(images), rtol=1e-4, atol=1e-5)


def test_a_file_of_another_network_than_a_resnet_is_refused(job: Job, tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(DataError, match="holds no convnext_tiny trunk: none of its 122 weights"):
        Untrained(UntrainedParams(backbone="convnext_tiny", init=tmp_path / "resnet18.pth")).pretrain(job())


def test_weights_of_another_network_are_refused(job: Job, given: Path) -> None:
    with pytest.raises(DataError, match="init is a resnet18 but backbone is resnet34"):
        Untrained(UntrainedParams(backbone="resnet34", init=given)).pretrain(job())
