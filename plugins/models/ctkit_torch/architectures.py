"""Names of the image networks that can be pre-trained, checked without importing torch."""

from __future__ import annotations

from importlib.util import find_spec

from ctkit.errors import nearest

#: Networks of torchvision. Any name that timm lists is valid too, where timm is installed.
TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "wide_resnet50_2", "wide_resnet101_2", "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32",
)  # fmt: skip


def check_architecture(name: str) -> str:
    """Return ``name``; raise ``ValueError`` with the nearest valid one where no library has it."""
    if name in TORCHVISION:
        return name
    more = "; with timm (pip install 'ctkit-ssl[timm]') also every name that timm lists"
    if find_spec("timm"):
        import timm

        if timm.is_model(name):
            return name
        more = ""
    raise ValueError(f"no network is called {name!r}; {nearest(name, TORCHVISION)}{more}")
