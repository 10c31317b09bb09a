"""The feature maps that a trunk computes on the way, at every scale, for networks that say where things are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ctkit.errors import RequestError
from ctkit_torch.trunks import Trunk

_STRIDES = (2, 4, 8, 16, 32)  # pixels of the image in one of a map, each way
_FEWEST = 3  # scales


class Scale(NamedTuple):
    """A feature map: the module of the network that gives it, its channels, and the image's pixels in one of its."""

    module: str
    channels: int
    stride: int


class FeatureMaps(nn.Module):
    """A trunk as an encoder: images (n, 3, size, size) -> maps (n, channels, size / stride, size / stride), fine first.

    The map of a scale is the last that the network computes there, down to 1/32. Raises ``RequestError`` where the
    network has no such pyramid, as a vision transformer.
    """

    def __init__(self, trunk: Trunk, size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self._maps: dict[str, Tensor] = {}
        modules = dict(_blocks(trunk.network))
        handles = [module.register_forward_hook(self._keep(name)) for name, module in modules.items()]
        with torch.no_grad():
            trunk.eval()(torch.zeros(1, trunk.channels, size, size))
        found = {
            size // kept.shape[3]: Scale(name, kept.shape[1], size // kept.shape[3])
            for name, kept in self._maps.items()
            if kept.ndim == 4 and kept.shape[2] == kept.shape[3] and size % kept.shape[3] == 0
        }
        for handle in handles:
            handle.remove()
        self._maps.clear()
        strides = tuple(stride for stride in _STRIDES if stride in found)
        if len(strides) < _FEWEST or strides != _STRIDES[-len(strides) :]:
            raise RequestError(
                f"{trunk.architecture} has no feature maps at 1/4, 1/8, 1/16 and 1/32 of an image; take a network as"
                " a ResNet"
            )
        self.scales = [found[stride] for stride in strides]
        for scale in self.scales:
            modules[scale.module].register_forward_hook(self._keep(scale.module))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The map of each scale."""
        self.trunk(images)
        maps = [self._maps[scale.module] for scale in self.scales]
        self._maps.clear()
        return maps

    def _keep(self, name: str):  # type: ignore[no-untyped-def]  # torch's type of a hook
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                self._maps.pop(name, None)
                self._maps[name] = output

        return keep


def _blocks(network: nn.Module, above: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of a network that follow one another, in the order in which they are defined."""
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential):
            yield from _blocks(module, f"{above}{name}.")
        else:
            yield f"{above}{name}", module
