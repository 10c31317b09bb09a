"""A bundle is MONAI's: its own parser builds and runs it, and what comes out is what ctkit computes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out
from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn

from ctkit import rendering
from ctkit.contracts import ExportFormat, SourceFile, Volume
from ctkit.errors import RequestError
from ctkit_datasets.nifti import Nifti, NiftiParams
from ctkit_models.exports import export_backbone
from ctkit_models.monai_bundle import inference, monai_weights
from ctkit_torch.backbones import load_backbone, save_backbone
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import Trunk, build_trunk

MEAN, STD, SIZE = 0.25, 0.125, 32
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")  # MONAI's, of a library that is not needed
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def trained(architecture: str, channels: int = 3) -> Trunk:
    """A network with statistics of its own in every batch normalisation, so that none can be lost unseen."""
    with seeded(1):
        trunk = build_trunk(architecture, channels)
        for module in trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in (
                    (module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 2), (module.weight.data, 0.2, 0.8),
                    (module.bias.data, -0.1, 0.1),
                ):  # fmt: skip
                    assert values is not None
                    values.uniform_(low, high)
    return trunk.eval().requires_grad_(False)


def saved(path: Path, trunk: Trunk, intensity: Any = "lung") -> Path:
    look = json.dumps({"intensity": intensity, "size": SIZE})
    save_backbone(path, trunk, mean=MEAN, std=STD, metadata={"arm": "a", "size": str(SIZE), "rendering": look})
    return path


def parser(bundle: Path) -> ConfigParser:
    found = ConfigParser()
    found.read_config(bundle / "configs" / "inference.json")
    found["bundle_root"], found["device"] = str(bundle), "cpu"
    return found


def grey(count: int = 3, size: int = 40) -> Tensor:
    return torch.rand(count, 1, size, size + 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a ResNet-18."""
    folder = tmp_path_factory.mktemp("resnet18")
    export_backbone(saved(folder / "b.safetensors", trained("resnet18")), "monai", folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("form", ["monai", "monai-3d"])
@pytest.mark.parametrize(
    "architecture", ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in RESNETS[1:])]
)
def test_every_resnet_comes_back_with_its_features(architecture: str, form: ExportFormat, tmp_path: Path) -> None:
    trunk = trained(architecture)
    done = export_backbone(saved(tmp_path / "b.safetensors", trunk), form, tmp_path / "bundle")
    assert done.difference < 1e-4 * done.greatest
    images = grey()
    expected = trunk(images.expand(-1, 3, -1, -1))
    network = parser(tmp_path / "bundle").get_parsed_content("network")
    found = network(images if form == "monai" else images[..., None].repeat(1, 1, 1, 1, 5))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("architecture", [pytest.param("resnet101", marks=pytest.mark.slow), "resnet50"])
def test_the_encoder_of_a_flexible_unet_takes_the_weights_of_deep_resnets(architecture: str) -> None:
    trunk = trained(architecture)
    encoder = FlexibleUNet(1, 2, backbone=architecture, spatial_dims=2).encoder
    encoder.load_state_dict(monai_weights(trunk.network.state_dict(), 2))
    images = grey(2)
    found = encoder.eval()(images)[-1].mean(dim=(2, 3))
    torch.testing.assert_close(found, trunk(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
def test_the_encoder_of_a_flexible_unet_does_not_take_those_of_shallow_ones_in_silence(architecture: str) -> None:
    encoder = FlexibleUNet(1, 2, backbone=architecture, spatial_dims=2).encoder
    with pytest.raises(RuntimeError, match="Unexpected key"):
        encoder.load_state_dict(monai_weights(build_trunk(architecture).network.state_dict(), 2))


def test_a_network_of_one_channel_gives_its_own_features(tmp_path: Path) -> None:
    trunk = trained("resnet18", channels=1)
    export_backbone(saved(tmp_path / "b.safetensors", trunk), "monai", tmp_path / "bundle")
    found = parser(tmp_path / "bundle").get_parsed_content("network")(grey())
    torch.testing.assert_close(found, trunk(grey()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "architecture", ["wide_resnet50_2", "resnext50_32x4d", "convnext_tiny", "vit_b_16", "resnet10t"]
)
def test_other_networks_are_refused_by_name_before_anything_is_written(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=f"no network for the weights of {architecture}; it has one for each of resnet"
    ):
        inference(architecture, 2, 224, 0.5, 0.25, None)


def test_nothing_is_left_of_a_refused_export(tmp_path: Path) -> None:
    path = saved(tmp_path / "b.safetensors", trained("resnet10t"))
    with pytest.raises(RequestError, match="MONAI has no network"):
        export_backbone(path, "monai", tmp_path / "bundle")
    assert [found.name for found in tmp_path.iterdir()] == ["b.safetensors"]


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_weight_too_many_or_too_few_is_an_error(change: str, bundle: Path) -> None:
    found = parser(bundle)
    weights = dict(found.get_parsed_content("weights"))
    if change == "added":
        weights["layer2.0.downsample.2.weight"] = torch.zeros(1)
    else:
        weights.pop("bn1.bias")
    changed = parser(bundle)
    changed["weights"] = weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="Failed to evaluate") as told:
            changed.get_parsed_content("network")
    assert ("Unexpected" if change == "added" else "Missing") in str(told.value.__cause__)


def test_weights_are_read_without_running_code_and_metadata_says_what_they_need(bundle: Path) -> None:
    assert "weights_only=True" in (bundle / "configs" / "inference.json").read_text()
    assert "ignite" not in (bundle / "configs" / "inference.json").read_text()
    facts = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert (facts["mean"], facts["std"], facts["rendering"]) == (MEAN, STD, {"intensity": "lung", "size": SIZE})
    required = {
        *("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task"),
        *("description", "authors", "copyright", "network_data_format"),
    }  # MONAI Bundle Specification
    assert required <= facts.keys()
    image = facts["network_data_format"]["inputs"]["image"]
    assert image.keys() == {
        *("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
        "channel_def",
    }
    assert image["value_range"] == [-2, 6]


@pytest.mark.parametrize("key", ["network", "network_def"])
def test_monai_itself_finds_the_network_as_the_metadata_describes_it(key: str, bundle: Path, tmp_path: Path) -> None:
    config, meta = (str(bundle / "configs" / f"{name}.json") for name in ("inference", "metadata"))
    verify_net_in_out(key, meta, config, device="cpu", p=2, n=32, any=48, bundle_root=str(bundle))
    facts = json.loads(Path(meta).read_text())
    facts["network_data_format"]["outputs"]["pred"]["num_channels"] += 1
    (tmp_path / "wrong.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(
            key, str(tmp_path / "wrong.json"), config, device="cpu", p=2, n=32, any=48, bundle_root=str(bundle)
        )


def volume(path: Path, size: int = SIZE) -> None:
    """Write a CT that is not square, whose axes run to the right, front and head, which no rendering keeps."""
    rng = np.random.default_rng(5)
    values = rng.integers(-1100, 1500, (size, size - 9, 6)).astype(np.int16)
    values[..., 0] //= 3
    image = nibabel.Nifti1Image(values, np.diag([0.7, 0.8, 2.5, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def ours(path: Path) -> Any:
    dataset = Nifti(NiftiParams(root=path.parent, unit="HU"))
    file = SourceFile(path.name, path.stat().st_size, 0)
    facts = dataset.inspect(file)
    assert isinstance(facts, dict)
    (found,) = dataset.arrange([(file, facts)])
    assert isinstance(found, Volume)
    return dataset.read(found)


@pytest.mark.parametrize(
    "intensity", ["lung", "hu-window", {"centre": 100, "width": 900}, "slice-min-max", "volume-min-max"], ids=str
)
def test_transforms_of_the_bundle_render_a_ct_as_training_saw_it(intensity: Any, tmp_path: Path) -> None:
    volume(tmp_path / "scan.nii.gz")
    pixels = ours(tmp_path / "scan.nii.gz")
    levels = intensity if isinstance(intensity, str) else (intensity["centre"], intensity["width"])
    expected = (rendering.training(pixels.values, pixels.unit, levels, SIZE) / 255.0 - MEAN) / STD
    look = json.dumps({"intensity": intensity, "size": SIZE})
    for dimensions in (2, 3):
        found = ConfigParser(inference("resnet18", dimensions, SIZE, MEAN, STD, look))
        image = found.get_parsed_content("preprocessing")(tmp_path / "scan.nii.gz")
        assert image.shape == ((6, 1, SIZE, SIZE) if dimensions == 2 else (1, 1, SIZE, SIZE, 6))
        slices = image[:, 0] if dimensions == 2 else image[0, 0].permute(2, 0, 1)
        np.testing.assert_allclose(slices.numpy(), expected, atol=0.51 / 255 / STD)  # ours has 8 bits


def test_a_bundle_runs_on_a_folder_of_scans_and_gives_the_features_that_ctkit_does(
    bundle: Path, tmp_path: Path
) -> None:
    for name in ("a.nii.gz", "b.nii"):
        volume(tmp_path / name, 2 * SIZE)
    run = parser(bundle)
    run["dataset_dir"], run["output"] = str(tmp_path), str(tmp_path / "features.npz")
    run.get_parsed_content("run")
    with np.load(tmp_path / "features.npz") as file:
        found = dict(file)
    assert found.keys() == {"a.nii.gz", "b.nii"}
    image = run.get_parsed_content("preprocessing")(tmp_path / "a.nii.gz")
    expected = load_backbone(bundle.parent / "b.safetensors").trunk(image.expand(-1, 3, -1, -1)).detach()
    assert image.shape == (6, 1, SIZE, SIZE)
    np.testing.assert_allclose(found["a.nii.gz"], expected.numpy(), rtol=1e-3, atol=1e-4)
