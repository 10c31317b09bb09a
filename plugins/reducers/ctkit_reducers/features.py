"""Features of slices by a network, in torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ctkit.errors import DataError
from ctkit_torch.architectures import TORCHVISION
from ctkit_torch.backbones import Backbone, load_backbone
from ctkit_torch.precision import exact_convolutions
from ctkit_torch.trunks import Trunk, build_trunk, timm_width
from ctkit_torch.weights import torchvision_weights

BATCH = 64  #: slices in one forward pass
IMAGENET_MEAN_STD = (0.449, 0.226)  #: the means over the three channels that the weights were trained with


def embed(backbone: Backbone, grey: NDArray[np.uint8], size: int, device: str) -> NDArray[np.float32]:
    """Features (n, width) of unit length of slices (n, rows, columns), by a backbone that is on ``device``."""
    features = np.empty((len(grey), backbone.trunk.width), np.float32)
    with torch.inference_mode(), exact_convolutions():
        for start in range(0, len(grey), BATCH):
            images = _prepared(torch.tensor(grey[start : start + BATCH]).to(device), size)
            seen = backbone.trunk((images - backbone.mean) / backbone.std)
            features[start : start + BATCH] = functional.normalize(seen.float()).cpu().numpy()
    return features


def _prepared(grey: Tensor, size: int) -> Tensor:
    """(n, 3, size, size) in 0..1 of slices (n, rows, columns) in 0..255."""
    images = grey[:, None].float() / 255
    images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return images.expand(-1, 3, -1, -1)


@lru_cache(maxsize=1)
def backbone_on(device: str, path: Path | None, network: str) -> Backbone:
    """The backbone of a checkpoint, or where there is none a network with weights of its own, on ``device``."""
    if path is not None:
        found = load_backbone(path)
    else:
        found = _of_torchvision(network) if network in TORCHVISION else _of_timm(network)
    found.trunk.to(device)
    return found


def _of_timm(network: str) -> Backbone:
    """Take timm's weights. Raises ``DataError`` where there are none, or they cannot be fetched."""
    try:
        import timm

        model: Any = timm.create_model(network, pretrained=True, num_classes=0)
    except Exception as error:  # timm and its hub raise many kinds
        raise DataError(_unreachable(network, error), retry=True) from error
    means, deviations = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    trunk = Trunk(model.eval(), network, timm_width(model))
    return Backbone(trunk, network, float(np.mean(means)), float(np.mean(deviations)))


def _unreachable(which: str, error: Exception) -> str:
    return (
        f"cannot download the weights of {which} ({error}); "
        "give the path of a checkpoint as `backbone`, or download them once on this machine"
    )


def _of_torchvision(network: str) -> Backbone:
    """Take the first ImageNet weights of torchvision: the second were trained with smoothing that blurs features.

    Raises ``DataError`` where they are not at hand and cannot be fetched.
    """
    import torchvision

    weights = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"]
    try:
        values = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        url, path = torchvision_weights(network)
        which = f"{network} from {url}, to keep them in {path.parent}"
        raise DataError(_unreachable(which, error), retry=True) from error
    trunk = build_trunk(network)
    trunk.load({name: values[name] for name in trunk.weights()})
    return Backbone(trunk.eval(), network, *IMAGENET_MEAN_STD)
