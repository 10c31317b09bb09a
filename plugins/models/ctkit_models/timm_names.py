"""What timm calls torchvision's networks and their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ctkit_torch.architectures import TORCHVISION

_NETWORKS = {
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
}

_VIT = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)

_CONVNEXT = (
    (r"^features\.0\.", "stem."),
    (r"^classifier\.0\.", "head.norm."),
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
)


def timm_network(architecture: str) -> str:
    """Return the name under which timm builds the network."""
    return _NETWORKS.get(architecture, architecture)


def timm_weights(architecture: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a network without classifier under timm's names, which for ResNets are torchvision's."""
    if architecture in TORCHVISION and architecture.startswith("vit_"):
        return {_renamed(name, _VIT): value for name, value in weights.items()}
    if architecture in TORCHVISION and architecture.startswith("convnext_"):
        named = {_stage(_renamed(name, _CONVNEXT)): value for name, value in weights.items()}
        return {name: value.flatten() if name.endswith(".gamma") else value for name, value in named.items()}
    return dict(weights)


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _stage(name: str) -> str:
    """Count ConvNeXt's stages as timm does: torchvision numbers stages and the convolutions between them through."""
    found = re.match(r"^features\.(\d+)\.(\d+)\.", name)
    if found is None:
        return name
    number, part = int(found[1]), "blocks" if int(found[1]) % 2 else "downsample"
    return f"stages.{number // 2}.{part}.{found[2]}.{name[found.end() :]}"
