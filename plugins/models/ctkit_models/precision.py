"""How exactly a GPU computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Compute float32 convolutions in float32, which torch has a GPU of the Ampere generation or later do in TF32.

    TF32 keeps 10 bits of a factor's mantissa, float32 23. What features and predictions are found by in the cache does
    not name the device, so they must not depend on it but for the order of sums. Matrix products are in float32 anyway.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def has_bf16() -> bool:
    """Whether the GPU computes in bf16 by itself; emulated it is slower than fp32."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
