"""Backbones as files: our own safetensors, and checkpoints of others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from ctkit.errors import CtkitError, DataError
from ctkit.files import write_bytes
from ctkit_torch.foreign import filled, find_trunk, read_checkpoint
from ctkit_torch.headers import is_ours, is_safetensors, read_header
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import Trunk, build_trunk

#: Mean and standard deviation, on the scale 0..1, of the slices the paper's authors trained on (unreduced set).
PUBLISHED_MEAN_STD = (0.1806, 0.1907)


@dataclass(frozen=True)
class Backbone:
    """A trunk in evaluation mode, (n, 3, height, width) -> (n, trunk.width), and how its images were normalised."""

    trunk: Trunk
    architecture: str
    mean: float  #: of the training slices, on the scale 0..1
    std: float
    metadata: Mapping[str, str] = field(default_factory=dict)


class NormalisedBackbone(nn.Module):
    """A backbone as ``ctkit.Run.backbone`` gives it, with its normalisation.

    Features (n, ``width``) of images (n, 1 or 3, height, width), float on the scale 0..1.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trunk = backbone.trunk
        self.architecture, self.width = backbone.architecture, backbone.trunk.width
        self.mean, self.std = backbone.mean, backbone.std  #: of the training slices, on the scale 0..1
        self.metadata: Mapping[str, str] = backbone.metadata
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Normalise, repeat one channel to three, and compute features."""
        features: Tensor = self.trunk(images.sub(self.mean).div(self.std).expand(-1, 3, -1, -1))
        return features


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
    """Load a backbone that ctkit wrote, or the trunk in a checkpoint of another project, whatever its prefix.

    A checkpoint of another network than a plain ResNet does not say which one it is for: ``architecture`` does. Its
    classification layer is left out.

    Raises ``DataError`` where the file holds no whole trunk or several, NaN or infinite values, or wants to run code.

    >>> made = random_backbone("resnet18", seed=1)
    >>> save_backbone(Path("backbone.safetensors"), made.trunk, mean=0.2, std=0.3, metadata={})
    >>> backbone = load_backbone(Path("backbone.safetensors"))
    >>> import torch
    >>> grey = torch.rand(2, 1, 64, 64)  # slices on the scale 0..1
    >>> backbone.trunk((grey.expand(-1, 3, -1, -1) - backbone.mean) / backbone.std).shape
    torch.Size([2, 512])
    """
    try:
        if is_safetensors(path):
            ours, weights = is_ours(path), read_safetensors(path)[0]
            if ours:
                header = read_header(path)
                return Backbone(filled(path, header.architecture, weights), *header)
        else:
            weights = read_checkpoint(path)
        trunk = find_trunk(path, weights, architecture)
    except OSError as error:
        raise DataError(f"cannot read the backbone {path}: {error.strerror or error}") from error
    except CtkitError:
        raise
    except Exception as error:  # torch cannot work with every type and layout of tensors that files hold
        raise DataError(f"the tensors in {path} cannot be used: {type(error).__name__}: {error}") from error
    return Backbone(trunk, trunk.architecture, *PUBLISHED_MEAN_STD)


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
