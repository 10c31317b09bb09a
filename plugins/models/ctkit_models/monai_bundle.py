"""What a MONAI bundle holds: weights, how MONAI builds and runs the network, and what it takes and gives.

The network is a ResNet for grey images (n, 1, rows, columns), or for volumes (n, 1, rows, columns, slices). Transforms
of MONAI render a CT as ctkit does for training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctkit import __version__, rendering
from ctkit.errors import RequestError
from ctkit_torch.headers import RESNETS

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


def monai_network(architecture: str, dimensions: int) -> dict[str, Any]:
    """How MONAI builds a network that takes the weights of torchvision's. Raises ``RequestError`` where it has none."""
    if architecture not in RESNETS.values():
        raise RequestError(
            f"MONAI has no network for the weights of {architecture}; it has one for each of "
            f"{', '.join(RESNETS.values())}. Export it as timm, onnx or torchscript"
        )
    # as torchvision's: MONAI's own defaults are another stride, and biases in the shortcuts
    options = {"conv1_t_stride": 2, "shortcut_type": "B", "bias_downsample": False, "feed_forward": False}
    shape = {"spatial_dims": dimensions, "n_input_channels": 1}
    return {"_target_": f"monai.networks.nets.{architecture}", **shape, **options}


def monai_weights(weights: Mapping[str, Tensor], dimensions: int) -> dict[str, Tensor]:
    """Weights of torchvision's ResNet for grey images, or for volumes (rows, columns, slices).

    In 3 dimensions, a kernel has them in its centre along the slices, and 0 elsewhere. The centre never lies on the
    padding, so a volume of equal slices gives the features of one. Weights that are spread evenly over the slices, as
    for the videos of Carreira and Zisserman 2017, lose what falls on the padding at both ends.
    """
    grey = {name: weight.sum(1, keepdim=True) if name == "conv1.weight" else weight for name, weight in weights.items()}
    if dimensions == 2:
        return grey
    return {name: _inflated(weight) if weight.ndim == 4 else weight for name, weight in grey.items()}


def _inflated(kernel: Tensor) -> Tensor:
    """A kernel (out, in, side, side) as the centre of one (out, in, side, side, side)."""
    side = kernel.shape[-1]
    found = torch.zeros(*kernel.shape, side)
    found[..., side // 2] = kernel
    return found


def inference(
    architecture: str, dimensions: int, size: int, mean: float, std: float, look: str | None
) -> dict[str, Any]:
    """``configs/inference.json``: features of the NIfTI files in ``dataset_dir``, into ``output``.

    ``look`` is the rendering that the metadata of a backbone has; None takes images on the scale 0..1. In the
    transforms, slices take the place of channels: (slices, rows, columns).
    """
    channel = "image[:, None]" if dimensions == 2 else "image.permute(1, 2, 0)[None, None]"
    transforms = _scaling(json.loads(look)["intensity"] if look else None)
    return {
        **json.loads(Path(__file__).with_name("monai_inference.json").read_text(encoding="utf-8")),
        "network_def": monai_network(architecture, dimensions),
        "size": size,
        "mean": mean,
        "std": std,
        "scaling": {"_target_": "Compose", "transforms": transforms},
        "with_channel": f"$lambda image: {channel}",
    }


def _scaling(intensity: Any) -> list[dict[str, Any]]:
    """Transforms that bring slices (slices, rows, columns) in HU to the scale 0..1, as the slice store did."""
    if intensity in ("slice-min-max", "volume-min-max"):
        return [{"_target_": "ScaleIntensity", "channel_wise": intensity == "slice-min-max"}]
    if intensity is None:
        return []
    named = isinstance(intensity, str)
    centre, width = rendering.WINDOWS[intensity] if named else (intensity["centre"], intensity["width"])
    ends = {"a_min": centre - width / 2, "a_max": centre + width / 2, "b_min": 0.0, "b_max": 1.0}
    return [{"_target_": "ScaleIntensityRange", **ends, "clip": True}]


def metadata(
    architecture: str, dimensions: int, features: int, mean: float, std: float, known: Mapping[str, str]
) -> dict[str, Any]:
    """``configs/metadata.json``, where ``known`` is the metadata of a backbone."""
    image = {
        "type": "image", "format": "magnitude", "modality": "CT", "num_channels": 1, "dtype": "float32",
        "spatial_shape": ["*"] * dimensions, "value_range": [-mean / std, (1 - mean) / std], "is_patch_data": False,
        "channel_def": {"0": "CT on the scale 0..1, minus mean, divided by std"},
    }  # fmt: skip
    pred = {
        "type": "tuples", "format": "latent", "num_channels": features, "dtype": "float32", "spatial_shape": [],
        "value_range": [], "is_patch_data": False, "channel_def": {},
    }  # fmt: skip
    axes = "(n, 1, rows, columns)" if dimensions == 2 else "(n, 1, rows, columns, slices)"
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": "as exported"},
        **{f"{name}_version": version(package) for name, package in _PACKAGES.items()},
        "required_packages_version": {"nibabel": version("nibabel")},
        "task": "features of CT, for fine-tuning",
        "description": f"{architecture} pre-trained without labels on CT slices: images {axes} -> (n, {features})",
        "authors": "those who trained it",
        "copyright": "those who trained it",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        "mean": mean,
        "std": std,
        "rendering": json.loads(known["rendering"]) if "rendering" in known else None,
        "ctkit_version": __version__,
        "ctkit": dict(known),
    }


_PACKAGES = {"monai": "monai", "pytorch": "torch", "numpy": "numpy"}  #: names in the metadata, and of distributions
