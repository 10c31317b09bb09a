"""Image networks without their classification layer, under the names and weights' names of torchvision or timm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ctkit.errors import RequestError
from ctkit_torch.architectures import TORCHVISION, check_architecture


class Trunk(nn.Module):
    """A network that turns images into features: (n, channels, height, width) -> (n, width).

    ``network`` is the library's own module, so that its ``state_dict`` carries the library's names.
    """

    def __init__(self, network: nn.Module, architecture: str, width: int) -> None:
        super().__init__()
        self.network = network
        self.architecture = architecture
        self.width = width

    @property
    def channels(self) -> int:
        """Number of input channels, 1 or 3."""
        return self.network.get_submodule(_first_convolution(self.network)).in_channels  # type: ignore[return-value]

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, width) of images (n, channels, height, width)."""
        features: Tensor = self.network(images)
        return features

    def weights(self) -> dict[str, Tensor]:
        """Weights for the network with 3 input channels, which sees the same in a grey image repeated 3 times."""
        weights = dict(self.network.state_dict())
        if self.channels == 1:
            first = f"{_first_convolution(self.network)}.weight"
            weights[first] = (weights[first] / 3).repeat(1, 3, 1, 1)
        return weights

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take weights that were made for 3 input channels; the names must be exactly those of ``weights()``."""
        chosen = dict(weights)
        if self.channels == 1:
            first = f"{_first_convolution(self.network)}.weight"
            chosen[first] = chosen[first].sum(dim=1, keepdim=True)
        self.network.load_state_dict(chosen)


class VisionTransformerTrunk(Trunk):
    """torchvision's vision transformer for images of any size that its patches divide.

    Position embeddings are resized to the image, as Dosovitskiy et al. 2021 (section 3.2) do for other resolutions.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The class token's features (n, width) of images (n, channels, height, width)."""
        network: Any = self.network
        patches = network.conv_proj(images)  # (n, width, rows, columns)
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([network.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        positions = _resized_positions(network.encoder.pos_embedding, patches.shape[2], patches.shape[3])
        encoded = network.encoder.layers(network.encoder.dropout(tokens + positions))
        features: Tensor = network.encoder.ln(encoded[:, 0])
        return features


def build_trunk(architecture: str, channels: int = 3) -> Trunk:
    """Build a network with random weights and 1 or 3 input channels.

    The weights come from torch's global generator, as all initialisation in torch does; see ``seeded``.
    Raises ``ValueError`` for a name that no library has, and ``RequestError`` where the network needs 3 channels.
    """
    check_architecture(architecture)
    trunk = _torchvision_trunk(architecture) if architecture in TORCHVISION else _timm_trunk(architecture)
    if channels == 1:
        _make_grey(trunk.network, architecture)
    return trunk


def _torchvision_trunk(architecture: str) -> Trunk:
    network: nn.Module = torchvision.models.get_model(architecture, weights=None)
    name, last = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    network.set_submodule(name, nn.Identity())
    kind = VisionTransformerTrunk if architecture.startswith("vit_") else Trunk
    return kind(network, architecture, last.in_features)


def _timm_trunk(architecture: str) -> Trunk:
    import timm

    network: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    return Trunk(network, architecture, timm_width(network))


def timm_width(network: Any) -> int:
    """Width of the features of timm's ``network``, which has no classifier; some have a layer before that widens."""
    width: int = getattr(network, "head_hidden_size", network.num_features)
    return width


def _first_convolution(network: nn.Module) -> str:
    names: Iterator[str] = (name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))
    return next(names)


def _make_grey(network: nn.Module, architecture: str) -> None:
    """Replace the first convolution by the one that sees in a grey image what it saw in that image 3 times."""
    name = _first_convolution(network)
    colour = network.get_submodule(name)
    assert isinstance(colour, nn.Conv2d)
    grey = deepcopy(colour)  # some of timm's are of a class of their own, and pad in another way
    grey.in_channels = 1
    grey.weight = nn.Parameter(torch.empty_like(colour.weight[:, :1]))
    grey.reset_parameters()  # draws what a new layer would, on which the weights of what is built after it depend
    state = colour.state_dict()
    state["weight"] = state["weight"].sum(dim=1, keepdim=True)
    grey.load_state_dict(state)
    if not _see_alike(grey, colour):
        raise RequestError(
            f"the first layer of {architecture} normalises its weights over 3 channels; set channels = 3"
        )
    network.set_submodule(name, grey)


@torch.no_grad()
def _see_alike(grey: nn.Conv2d, colour: nn.Conv2d) -> bool:
    """Whether one sees in an image what the other sees in that image 3 times."""
    image = torch.linspace(-1, 1, 64 * 64).sin().view(1, 1, 64, 64)
    return torch.allclose(grey(image), colour(image.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


def _resized_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Position embeddings (1, 1 + side * side, width), class token first, for a grid of ``rows`` x ``columns``."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if (rows, columns) == (side, side):
        return positions
    grid = positions[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
    grid = nn.functional.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
