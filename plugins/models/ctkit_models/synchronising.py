"""Batch statistics that processes share, each on a GPU of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import nn


class SharedStatistics(LayerSync):
    """Batch normalisation over the batches of all processes, in networks of torchvision and of timm.

    Lightning's own takes the activations away that are a part of timm's batch normalisation.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch normalisations of ``model``; names and weights stay."""
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        if find_spec("timm"):
            from timm.layers.norm_act import convert_sync_batchnorm as convert
        return convert(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the model as it is: in evaluation mode nothing is shared."""
        return model
