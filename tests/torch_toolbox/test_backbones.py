from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctkit.errors import DataError
from ctkit_torch.backbones import PUBLISHED_MEAN_STD, load_backbone, random_backbone, save_backbone
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import Trunk, build_trunk


def trunk_with_seed(seed: int, channels: int = 3) -> Trunk:
    with seeded(seed):
        return build_trunk("resnet18", channels).eval()


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights.items()}


ONES = torch.ones(2, 2)


def in_sequence(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as ``nn.Sequential(*resnet.children())`` has them."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{places[name.partition('.')[0]]}.{name.partition('.')[2]}": value for name, value in weights.items()}


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "torchvision": lambda weights: {**weights, "fc.weight": torch.rand(10, 512), "fc.bias": torch.rand(10)},
    "swav": lambda weights: {
        "epoch": 799,
        "state_dict": {
            **prefixed("model.", weights),
            "model.projection_head.0.weight": torch.rand(4, 4),
            "model.prototypes.weight": torch.rand(5, 4),
        },
    },
    "spark": lambda weights: {"module": prefixed("model.", weights), "is_pretrain": True},
    "moco": lambda weights: {
        "state_dict": {
            **prefixed("encoder_q.", weights),
            **prefixed("encoder_k.", {name: torch.zeros_like(value) for name, value in weights.items()}),
            "encoder_q.fc.weight": torch.rand(4, 512),
            "queue": torch.rand(4, 8),
        }
    },
    "data parallel": lambda weights: prefixed("module.", weights),
    "compiled": lambda weights: {"model": prefixed("_orig_mod.", weights)},
    "moco of its authors": lambda weights: {
        "arch": "resnet18",
        "state_dict": {
            **prefixed("module.encoder_q.", weights),
            **prefixed("module.encoder_k.", {name: torch.zeros_like(value) for name, value in weights.items()}),
        },
    },
    "solo-learn": lambda weights: {
        "state_dict": {
            **prefixed("backbone.", weights),
            **prefixed("momentum_backbone.", {name: torch.zeros_like(value) for name, value in weights.items()}),
            "projector.0.weight": torch.rand(4, 4),
        }
    },
    "lightly": lambda weights: {"state_dict": prefixed("backbone.", in_sequence(weights))},
    "vissl": lambda weights: {
        "classy_state_dict": {
            "base_model": {"model": {"trunk": prefixed("_feature_blocks.", weights), "heads": {"0.clf.weight": ONES}}}
        },
        "iteration": 7,
    },
    "dino": lambda weights: {
        "student": prefixed("module.backbone.", {name: torch.zeros_like(value) for name, value in weights.items()}),
        "teacher": prefixed("backbone.", weights),
    },
    "one channel": lambda weights: {**weights, "conv1.weight": weights["conv1.weight"].sum(dim=1, keepdim=True)},
    "half precision": lambda weights: {
        name: value.half() if value.is_floating_point() else value for name, value in weights.items()
    },
    "byol": lambda weights: {
        "state_dict": {
            **prefixed("online_network.encoder.", weights),
            **prefixed("target_network.encoder.", {name: torch.zeros_like(value) for name, value in weights.items()}),
            "online_network.projector.model.0.weight": torch.rand(4, 4),
        }
    },
}


def test_a_backbone_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    trunk = trunk_with_seed(1)
    save_backbone(tmp_path / "b.safetensors", trunk, mean=0.25, std=1 / 3, metadata={"arm": "hash6", "steps": "7"})
    backbone = load_backbone(tmp_path / "b.safetensors")
    assert (backbone.architecture, backbone.mean, backbone.std) == ("resnet18", 0.25, 1 / 3)
    assert (backbone.metadata["arm"], backbone.metadata["steps"]) == ("hash6", "7")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.trunk(images), trunk(images))


def test_a_grey_trunk_is_saved_for_torchvisions_network_of_three_channels(tmp_path: Path) -> None:
    grey = trunk_with_seed(1, channels=1)
    save_backbone(tmp_path / "b.safetensors", grey, mean=0.5, std=0.5, metadata={})
    network = torchvision.models.resnet18(weights=None).eval()
    network.fc = torch.nn.Identity()
    network.load_state_dict(load_file(tmp_path / "b.safetensors"))
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images.repeat(1, 3, 1, 1)), grey(images), rtol=1e-4, atol=1e-5)


def test_the_same_backbone_gives_the_same_bytes_and_keeps_them_readable(tmp_path: Path) -> None:
    metadata = {name: name for name in ("arm", "method", "steps", "fingerprint", "rendering")}
    for order in (1, -1):
        shuffled = dict(list(metadata.items())[::order])
        save_backbone(tmp_path / f"{order}.safetensors", trunk_with_seed(1), mean=0.5, std=0.5, metadata=shuffled)
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "-1.safetensors").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_released_checkpoint_is_recognised_by_its_keys(layout: str, tmp_path: Path) -> None:
    trunk = trunk_with_seed(2)
    torch.save(LAYOUTS[layout](trunk.weights()), tmp_path / "checkpoint.pt")
    backbone = load_backbone(tmp_path / "checkpoint.pt")
    assert backbone.architecture == "resnet18"
    assert (backbone.mean, backbone.std) == PUBLISHED_MEAN_STD
    images = torch.rand(2, 1, 32, 32).expand(-1, 3, -1, -1)
    with torch.no_grad():
        exact = layout not in ("one channel", "half precision")
        torch.testing.assert_close(
            backbone.trunk(images), trunk(images), **({"rtol": 0, "atol": 0} if exact else LOOSE)
        )


LOOSE = {"rtol": 1e-2, "atol": 1e-2}


def test_safetensors_of_other_projects_are_taken(tmp_path: Path) -> None:
    trunk = trunk_with_seed(2)
    save_file({**trunk.weights(), "fc.weight": torch.rand(10, 512)}, tmp_path / "model.safetensors")  # as timm writes
    assert load_backbone(tmp_path / "model.safetensors").architecture == "resnet18"
    save_file(prefixed("resnet.", trunk.weights()), tmp_path / "hub.safetensors", metadata={"format": "pt"})
    assert load_backbone(tmp_path / "hub.safetensors", "resnet18").architecture == "resnet18"


def test_a_file_with_two_trunks_is_refused_unless_one_is_the_others_copy(tmp_path: Path) -> None:
    weights = trunk_with_seed(2).weights()
    torch.save({**prefixed("left.", weights), **prefixed("right.", weights)}, tmp_path / "two.pt")
    with pytest.raises(DataError, match=r"holds 2 complete backbones, under 'left.' and 'right.'; save one"):
        load_backbone(tmp_path / "two.pt")
    torch.save(prefixed("momentum_encoder.", weights), tmp_path / "copy.pt")
    assert load_backbone(tmp_path / "copy.pt").architecture == "resnet18"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value * torch.nan, "NaN or infinite values"),
        (lambda value: value * torch.inf, "NaN or infinite values"),
        (lambda value: value.to(torch.complex64), "sparse, quantised or complex"),
        (lambda value: value.to_sparse(), "sparse, quantised or complex"),
    ],
    ids=["NaN", "infinite", "complex", "sparse"],
)
def test_weights_that_cannot_be_used_are_refused(
    tmp_path: Path, change: Callable[[Tensor], Tensor], message: str
) -> None:
    weights = trunk_with_seed(2).weights()
    weights["layer2.0.conv1.weight"] = change(weights["layer2.0.conv1.weight"] + 1)
    torch.save(weights, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match=message):
        load_backbone(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.0), (0.5, -1.0), (float("nan"), 0.5), (0.5, float("inf"))])
def test_a_backbone_whose_images_cannot_be_normalised_is_refused(tmp_path: Path, mean: float, std: float) -> None:
    save_backbone(tmp_path / "b.safetensors", trunk_with_seed(2), mean=mean, std=std, metadata={})
    with pytest.raises(DataError, match="says that its images have mean"):
        load_backbone(tmp_path / "b.safetensors")


def test_a_deep_resnet_is_told_from_a_shallow_one(tmp_path: Path) -> None:
    with seeded(3):
        weights = build_trunk("resnet50").weights()
    torch.save({"state_dict": prefixed("model.", weights)}, tmp_path / "checkpoint.pt")
    assert load_backbone(tmp_path / "checkpoint.pt").architecture == "resnet50"


def test_a_checkpoint_without_the_whole_trunk_is_refused_with_what_was_found(tmp_path: Path) -> None:
    weights = trunk_with_seed(2).weights()
    del weights["layer3.0.conv2.weight"]
    torch.save({"state_dict": prefixed("model.", weights)}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match=r"holds 119 of the 120 weights of resnet18; layer3\.0\.conv2\.weight"):
        load_backbone(tmp_path / "checkpoint.pt")


def test_a_checkpoint_that_lacks_a_stage_is_refused(tmp_path: Path) -> None:
    weights = {name: value for name, value in trunk_with_seed(2).weights().items() if not name.startswith("layer4")}
    torch.save(weights, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="holds no whole ResNet: 90 weights of a trunk were found, with 2/2/2/0 blocks"):
        load_backbone(tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_something_else_is_refused_with_what_it_has(tmp_path: Path) -> None:
    torch.save({"decoder.weight": torch.rand(2)}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match=r"holds no ResNet trunk: .* it has decoder"):
        load_backbone(tmp_path / "checkpoint.pt")


class RunsCode:
    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.evidence),)


def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    torch.save({"state_dict": trunk_with_seed(2).weights(), "x": RunsCode(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match="is refused: it contains more than weights"):
        load_backbone(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, 5000], ids=lambda keep: f"{keep}-bytes")
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_truncated_file_is_refused_with_a_sentence(kind: str, keep: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "torch":
        torch.save(trunk_with_seed(2).weights(), path)
    else:
        save_backbone(path, trunk_with_seed(2), mean=0.5, std=0.5, metadata={})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_backbone(path)


def test_foreign_safetensors_are_refused_with_what_they_lack(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="holds no ResNet trunk: none of its 1 weights is called conv1.weight"):
        load_backbone(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "ours.safetensors", metadata={"mean": "0.5", "std": "0.5"})
    with pytest.raises(DataError, match="is not a backbone of ctkit: its metadata lacks 'architecture'"):
        load_backbone(tmp_path / "ours.safetensors")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the backbone .*No such file"):
        load_backbone(tmp_path / "none.safetensors")


def test_a_random_backbone_depends_on_its_seed_alone() -> None:
    first, again, other = (random_backbone("resnet18", seed).trunk.weights()["conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
