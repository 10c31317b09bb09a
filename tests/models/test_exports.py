from __future__ import annotations

import json
import warnings
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors
import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor

from ctkit.contracts import Exported, ExportFormat
from ctkit.errors import CtkitError, DataError, RequestError
from ctkit_models import exports
from ctkit_models.timm_names import timm_network, timm_weights
from ctkit_torch.architectures import TORCHVISION
from ctkit_torch.backbones import load_backbone, save_backbone
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk

MEAN, STD = 0.25, 0.125
FORMATS: list[ExportFormat] = ["torchvision", "timm", "onnx", "torchscript", "monai", "monai-3d"]


def backbone(folder: Path, architecture: str = "resnet18", size: int = 32) -> Path:
    with seeded(1):
        trunk = build_trunk(architecture)
    path = folder / "backbone.safetensors"
    save_backbone(path, trunk, mean=MEAN, std=STD, metadata={"arm": "hash6", "size": str(size)})
    return path


def features(lines: tuple[str, ...], images: Tensor, form: str) -> Tensor:
    """What the lines that a user is shown compute, in a namespace of their own."""
    names: dict[str, Any] = {"images": images.numpy() if form == "onnx" else images}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)
        exec("\n".join(lines), names)
    return torch.as_tensor(names["features"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone."""
    return backbone(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module", params=FORMATS)
def exported(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Its export in a format, which the folder is named after."""
    return exports.export_backbone(source, request.param, tmp_path_factory.mktemp("exported") / request.param)


def test_the_lines_that_are_shown_load_the_file_and_give_the_same_features(exported: Exported, source: Path) -> None:
    form = exported.path.name
    assert (exported.mean, exported.std) == (MEAN, STD)
    assert exported.compared == "512 features of 3 images of 32 pixels"
    # as many and as large as none that it was written or checked with
    images = torch.rand(5, 1, 48, 40).expand(-1, 3, -1, -1)
    with torch.no_grad():
        original = load_backbone(source).trunk((images - MEAN) / STD)
    torch.testing.assert_close(features(exported.loading, images, form), original, rtol=1e-4, atol=1e-5)


def facts_for_torchvision(path: Path) -> tuple[Any, Any, Any]:
    with safetensors.safe_open(path, framework="pt") as file:
        return itemgetter("mean", "std", "arm")(file.metadata())


def facts_for_timm(path: Path) -> tuple[Any, Any, Any]:
    config = resolve_model_data_config(timm.create_model(f"local-dir:{path}", pretrained=True))
    assert len({*config["mean"]}) == len({*config["std"]}) == 1
    arm = json.loads((path / "config.json").read_text())["ctkit"]["arm"]
    return config["mean"][0], config["std"][0], arm


def facts_for_onnx(path: Path) -> tuple[Any, Any, Any]:
    return itemgetter("mean", "std", "arm")(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map)


def facts_for_torchscript(path: Path) -> tuple[Any, Any, Any]:
    extra = {"metadata.json": ""}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)
        traced = torch.jit.load(path, _extra_files=extra)
    return traced.mean, traced.std, json.loads(extra["metadata.json"])["arm"]


def facts_for_monai(path: Path) -> tuple[Any, Any, Any]:
    facts = json.loads((path / "configs" / "metadata.json").read_text())
    return facts["mean"], facts["std"], facts["ctkit"]["arm"]


FACTS = {
    "monai": facts_for_monai,
    "monai-3d": facts_for_monai,
    "torchvision": facts_for_torchvision,
    "timm": facts_for_timm,
    "onnx": facts_for_onnx,
    "torchscript": facts_for_torchscript,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS[:4])
@pytest.mark.parametrize(("architecture", "size"), [("convnext_tiny", 64), ("vit_b_32", 224)])
def test_other_networks_give_the_same_features_too(
    architecture: str, size: int, form: ExportFormat, tmp_path: Path
) -> None:
    exported = exports.export_backbone(backbone(tmp_path, architecture, size), form, tmp_path / "out")
    assert exported.difference <= 1e-4 * exported.greatest


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_weights_of_torchvision_have_names_and_shapes_of_timm(architecture: str) -> None:
    with torch.device("meta"):
        ours = timm_weights(architecture, build_trunk(architecture).network.state_dict())
        theirs = timm.create_model(timm_network(architecture), num_classes=0).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: v.shape for name, v in theirs.items()}


def test_normalisation_and_origin_reach_the_user_of_each_format(exported: Exported) -> None:
    mean, std, arm = FACTS[exported.path.name](exported.path)
    assert (float(mean), float(std), arm) == (MEAN, STD, "hash6")


def test_a_network_of_timm_is_exported_for_timm_but_not_for_torchvision(tmp_path: Path) -> None:
    path = backbone(tmp_path, "resnet10t")
    assert exports.export_backbone(path, "timm", tmp_path / "out").difference == 0
    with pytest.raises(RequestError, match="torchvision has no resnet10t; export it as timm, onnx or torchscript"):
        exports.export_backbone(path, "torchvision", tmp_path / "other")


@pytest.mark.parametrize(("form", "kind"), [("torchvision", "Torchvision"), ("timm", "Timm"), ("monai", "Monai")])
def test_what_gives_other_features_is_refused_and_removed_and_nothing_else(
    source: Path, tmp_path: Path, form: ExportFormat, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _almost(_: Any, network: exports.ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        return network.module(images) * 1.001  # type: ignore[no-any-return]  # modules return anything

    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(getattr(exports, kind), "features", _almost)
    with pytest.raises(DataError, match=r"gave features that differ by up to .* from the original's"):
        exports.export_backbone(source, form, tmp_path / "out" if form == "torchvision" else tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_missing_library_is_named_with_its_extra(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "find_spec", lambda name: None if name.startswith("onnx") else name)
    with pytest.raises(
        RequestError, match=r'needs onnx and onnxscript and onnxruntime: pip install "ctkit-ssl\[onnx\]"'
    ):
        exports.export_backbone(source, "onnx", tmp_path / "out")


def test_images_for_the_check_are_always_the_same(source: Path) -> None:
    network = exports.ExportedNetwork.of(load_backbone(source))
    one, other = (network.random_images(2).numpy() for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (2, 3, 32, 32)


def test_a_network_that_torch_cannot_turn_into_onnx_is_a_sentence(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("a page of advice")

    monkeypatch.setattr(torch.onnx, "export", failing)
    with pytest.raises(CtkitError, match=r"cannot convert this network to ONNX \(RuntimeError\); a newer torch"):
        exports.export_backbone(source, "onnx", tmp_path / "onnx")
    assert not list(tmp_path.iterdir())
