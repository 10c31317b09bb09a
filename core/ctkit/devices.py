"""Which accelerator there is, asked of the driver itself, since the core imports no torch."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Literal

from ctkit.errors import RequestError


def resolve(device: Literal["auto", "cpu", "cuda"], count: int = 1) -> str:
    """Return "cpu" or "cuda" for what a pipeline asks. Raises ``RequestError`` where there are less than ``count``."""
    if device == "cuda" and not cuda_devices():
        raise RequestError('compute.device is "cuda" but the driver shows no CUDA device; use "auto" or "cpu"')
    if device == "cpu" or not cuda_devices():
        return "cpu"
    if count > (there := cuda_devices()):
        raise RequestError(f"compute.devices is {count} but the driver shows {there} CUDA devices; ask for less")
    return "cuda"


@cache
def cuda_devices() -> int:
    """Return how many CUDA devices the driver shows, respecting ``CUDA_VISIBLE_DEVICES``."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0
