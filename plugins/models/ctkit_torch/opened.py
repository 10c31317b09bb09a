"""A backbone with its normalisation, as ``ctkit.Run.backbone`` gives it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ctkit_torch.backbones import Backbone


class NormalisedBackbone(nn.Module):
    """Features (n, ``width``) of images (n, 1 or 3, height, width), float on the scale 0..1."""

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
