"""Backbones as files: our own safetensors, and the checkpoints that the paper's authors released."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ctkit.errors import DataError
from ctkit.files import write_bytes
from ctkit_torch.headers import RESNETS, is_safetensors, read_header, resnet_of
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import Trunk, build_trunk

#: Mean and standard deviation, on the scale 0..1, of the slices the paper's authors trained on (unreduced set).
PUBLISHED_MEAN_STD = (0.1806, 0.1907)

#: Where the authors' checkpoints keep the trunk: plain, SwAV and SparK, MoCo, BYOL.
PREFIXES = ("", "model.", "encoder_q.", "online_network.encoder.")


@dataclass(frozen=True)
class Backbone:
    """A trunk in evaluation mode, (n, 3, height, width) -> (n, trunk.width), and how its images were normalised."""

    trunk: Trunk
    architecture: str
    mean: float  #: of the training slices, on the scale 0..1
    std: float
    metadata: Mapping[str, str] = field(default_factory=dict)


def save_backbone(path: Path, trunk: Trunk, *, mean: float, std: float, metadata: Mapping[str, str]) -> None:
    """Write a trunk's weights for 3 input channels; the same trunk and metadata give the same bytes."""
    described = {**metadata, "architecture": trunk.architecture, "mean": repr(mean), "std": repr(std)}
    write_bytes(path, safetensors_bytes(trunk.weights(), described))


def safetensors_bytes(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; the same weights and metadata give the same bytes."""
    whole = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    return _with_sorted_header(safetensors.torch.save(whole, metadata=dict(metadata)))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata. Raises ``SafetensorError`` where the file is not whole."""
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # no mapping


def load_backbone(path: Path, architecture: str | None = None) -> Backbone:
    """Load a backbone that ctkit wrote, a ResNet checkpoint in a layout of the paper's authors, or a library's weights.

    A file of torchvision or timm for another network than a plain ResNet does not say which one it is for:
    ``architecture`` does. Its classification layer is left out.

    Raises ``DataError`` where the file is none of them, holds less than a whole trunk, or wants to run code.
    """
    try:
        if is_safetensors(path):
            return _load_safetensors(path)
        if architecture is None or architecture in RESNETS.values():
            weights = _trunk_weights(path, _unpickled(path))
            architecture = resnet_of(path, weights)
            return Backbone(_filled(path, architecture, weights), architecture, *PUBLISHED_MEAN_STD)
        return Backbone(_filled(path, architecture, _unpickled(path)), architecture, *PUBLISHED_MEAN_STD)
    except OSError as error:
        raise DataError(f"cannot read the backbone {path}: {error.strerror or error}") from error


def random_backbone(architecture: str, seed: int) -> Backbone:
    """A trunk that was never trained: what a pre-trained one is measured against."""
    with seeded(seed):
        trunk = build_trunk(architecture)
    return Backbone(trunk.eval(), architecture, *PUBLISHED_MEAN_STD)


def _with_sorted_header(data: bytes) -> bytes:
    """Sort the header of safetensors bytes: the library writes the metadata in an order that changes per process."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the tensors to 8 bytes
    return len(header).to_bytes(8, "little") + header + data[start:]


def _load_safetensors(path: Path) -> Backbone:
    header = read_header(path)
    trunk = _filled(path, header.architecture, read_safetensors(path)[0])
    return Backbone(trunk, *header)


def _unpickled(path: Path) -> Mapping[str, Tensor]:
    """Tensors of a torch file, which may keep them under ``state_dict`` or ``module``. Never runs code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is refused: it holds more than weights, and loading it could run code; "
            "save its state_dict alone and use that file"
        ) from error
    except (
        *(RuntimeError, EOFError, ValueError, KeyError, IndexError),  # what torch raises on damaged files
        safetensors.SafetensorError,  # it reads those too, by their name
    ) as error:
        raise DataError(f"{path} is neither a safetensors file nor a torch checkpoint: {error}") from error
    for name in ("state_dict", "module"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} where weights by name must be")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _trunk_weights(path: Path, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's part of a checkpoint, under torchvision's names."""
    for prefix in PREFIXES:
        if f"{prefix}conv1.weight" in found:
            named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
            return {name: value for name, value in named.items() if name.split(".")[0] in _RESNET_PARTS}
    heads = sorted({name.split(".")[0] for name in found})
    raise DataError(
        f"{path} holds no ResNet trunk: none of its {len(found)} weights is called conv1.weight, with or without "
        f"{', '.join(PREFIXES[1:])}; it has {', '.join(heads[:8]) or 'no weights'}"
    )


_RESNET_PARTS = frozenset({"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"})


def _filled(path: Path, architecture: str, weights: Mapping[str, Tensor]) -> Trunk:
    """The trunk with these weights; every one of them must be there and fit."""
    trunk = build_trunk(architecture)
    expected = trunk.weights()
    fitting = {
        name: weights[name] for name in expected if name in weights and weights[name].shape == expected[name].shape
    }
    lacking = [name for name in expected if name not in fitting and not name.endswith("num_batches_tracked")]
    if lacking:
        raise DataError(
            f"{path} holds {len(fitting)} of the {len(expected)} weights of {architecture}; "
            f"{lacking[0]} is missing or of another shape"
        )
    trunk.load({**expected, **fitting})
    return trunk.eval()
