"""Contrastive pre-training: the built-in methods, and the base that other packages' methods build on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ctkit.hookspecs import Spec, hookimpl

if TYPE_CHECKING:
    from ctkit.contracts import Rows
    from ctkit_models.contrastive import Contrastive
    from ctkit_models.network import Network, full_precision
    from ctkit_models.parameters import ContrastiveParams
    from ctkit_models.plan import Plan
    from ctkit_torch.trunks import Trunk

__all__ = ["Contrastive", "ContrastiveParams", "Network", "Plan", "Trunk", "full_precision"]


def __getattr__(name: str) -> Any:  # the public names arrive on use, so that listing and describing imports no torch
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    owner: ModuleType
    if name == "Contrastive":
        from ctkit_models import contrastive as owner
    elif name == "ContrastiveParams":
        from ctkit_models import parameters as owner
    elif name == "Plan":
        from ctkit_models import plan as owner
    elif name == "Trunk":
        from ctkit_torch import trunks as owner
    else:
        from ctkit_models import network as owner
    return getattr(owner, name)


@hookimpl
def ctkit_register_methods() -> Sequence[Spec]:
    """The built-in methods, and the baseline that takes no step."""
    spec = partial(Spec, requires="train")
    return [
        spec("simclr", "two views against all others of the batch (Chen et al. 2020)", "ctkit_models.simclr:SimCLR"),
        spec("moco", "two views against a queue of earlier slices (He et al. 2020, v2)", "ctkit_models.moco:MoCo"),
        spec("swav", "views predict each other's prototypes (Caron et al. 2020)", "ctkit_models.swav:SwAV"),
        spec("byol", "a view predicts another, without negatives (Grill et al. 2020)", "ctkit_models.byol:BYOL"),
        spec("untrained", "random or given weights, as a baseline", "ctkit_models.untrained:Untrained"),
    ]


@hookimpl
def ctkit_check_backbone(path: Path) -> str | None:
    """Why the network that a backbone names cannot be built for its weights."""
    from ctkit.errors import DataError
    from ctkit_torch.headers import read_header

    try:
        read_header(path)
    except DataError as error:
        return f"{str(error).replace(str(path), path.name)}; write it with ctkit_torch.backbones.save_backbone"
    return None


@hookimpl
def ctkit_open_backbone(path: Path) -> Any:
    """Any backbone that ctkit or a plugin wrote, by the architecture in its metadata."""
    from ctkit_torch.backbones import NormalisedBackbone, load_backbone

    return NormalisedBackbone(load_backbone(path))


@hookimpl
def ctkit_open_slices(rows: Rows, sources: Sequence[str]) -> Any:
    """Slices in the store."""
    from ctkit_models.slices import StoredSlices

    return StoredSlices(rows, sources)


@hookimpl
def ctkit_check_device(device: str) -> str | None:
    """Why torch cannot use a GPU that is there."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return "torch, which computes on a GPU, is missing; pip install 'ctkit-ssl[train]'"
    from ctkit_torch.precision import unusable  # imports torch

    return unusable() if device == "cuda" else None
