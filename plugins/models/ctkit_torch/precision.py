"""What torch makes of a GPU: whether it can use it, how exactly that computes, and how it finds what is fastest."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def unusable() -> str | None:
    """Why torch cannot use the GPU that is there, and what to do; None where it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells of an old driver at length, and how it was built says the same
        if torch.cuda.is_available():
            return None
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"there is a GPU but this torch cannot use it, because it is built {built}; install one for the CUDA version"
        " of the GPU's driver"
    )


def exact_convolutions() -> AbstractContextManager[None]:
    """Compute float32 convolutions in float32, which torch has a GPU of the Ampere generation or later do in TF32.

    TF32 keeps 10 bits of a factor's mantissa, float32 23. What features and predictions are found by in the cache does
    not name the device, so they must not depend on it but for the order of sums. Matrix products are in float32 anyway.
    """
    return _cudnn("allow_tf32", on=False)


def tuned_convolutions(*, on_gpu: bool) -> AbstractContextManager[None]:
    """Let cuDNN try which of its algorithms are fastest: here, where all batches are of a size, and nowhere else."""
    return _cudnn("benchmark", on=on_gpu)


@contextmanager
def _cudnn(flag: str, *, on: bool) -> Iterator[None]:
    before = getattr(torch.backends.cudnn, flag)
    setattr(torch.backends.cudnn, flag, on)
    try:
        yield
    finally:
        setattr(torch.backends.cudnn, flag, before)


def has_bf16() -> bool:
    """Whether the GPU computes in bf16 by itself; emulated it is slower than fp32."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
