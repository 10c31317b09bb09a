"""Which accelerator there is, asked of the driver itself, since the core imports no torch."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import Literal

from ctkit.errors import RequestError

Jobs = int | Literal["auto"]
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def resolve(device: Literal["auto", "cpu", "cuda"], count: int = 1) -> str:
    """Return "cpu" or "cuda" for what a pipeline asks. Raises ``RequestError`` where there are less than ``count``."""
    if device == "cuda" and not cuda_devices():
        raise RequestError('compute.device is "cuda" but the driver shows no CUDA device; use "auto" or "cpu"')
    if device == "cpu" or not cuda_devices():
        return "cpu"
    if count > (there := cuda_devices()):
        raise RequestError(f"compute.devices is {count} but the driver shows {there} CUDA devices; ask for less")
    return "cuda"


def shares(device: str, jobs: Jobs, each: int = 1) -> list[dict[str, str]]:
    """Share the devices out to ``jobs`` processes, ``each`` of so many: the environment of every process.

    [] stands for one job at a time, in the process that asks. "auto" is as many as there are GPUs for, and one on the
    CPU, whose cores a single job fills. Raises ``RequestError`` where there are not enough GPUs.
    """
    there = _visible() if device == "cuda" else []
    count = max(1, len(there) // each) if jobs == "auto" else jobs
    if device == "cuda" and count * each > len(there):
        raise RequestError(
            f"{count} jobs at once with {each} GPUs each are asked for but the driver shows {len(there)}; ask for"
            f" --jobs {len(there) // each} or less"
        )
    if count == 1:
        return []
    threads = {"OMP_NUM_THREADS": str(_threads(count * each))}
    if device != "cuda":
        return [threads] * count
    return [threads | {_VISIBLE: ",".join(there[job * each : (job + 1) * each])} for job in range(count)]


def _visible() -> list[str]:
    """Names of the CUDA devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    named = os.environ.get(_VISIBLE)
    return named.split(",")[: cuda_devices()] if named else [str(number) for number in range(cuda_devices())]


def _threads(processes: int) -> int:
    """Threads for each of so many processes: its part of the cores, and no more than the user allows any process."""
    from ctkit.compute import usable_cores

    allowed = os.environ.get("OMP_NUM_THREADS", "")
    part = max(1, usable_cores() // processes)
    return min(part, int(allowed)) if allowed.isdigit() and int(allowed) else part


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
