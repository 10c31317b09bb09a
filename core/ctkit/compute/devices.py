"""Which accelerator there is, asked of the driver itself; plugins say whether they can use it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Literal

from ctkit.errors import RequestError

Jobs = int | Literal["auto"]
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def resolve(device: Literal["auto", "cpu", "cuda"], count: int, unusable: Callable[[], str | None]) -> str:
    """Return "cpu" or "cuda" for what a pipeline asks; "auto" is "cuda" only where plugins can use it.

    ``unusable`` says why they cannot, and is called only where there is a device that is wanted. Raises
    ``RequestError`` where there are less than ``count``, or "cuda" is asked for and cannot be used.
    """
    if device == "cuda" and not cuda_devices():
        raise RequestError('compute.device is "cuda" but the driver shows no CUDA device; use "auto" or "cpu"')
    if device == "cpu" or not cuda_devices():
        return "cpu"
    if why := unusable():
        if device == "cuda":
            raise RequestError(f'compute.device is "cuda": {why}, or use "cpu"')
        return "cpu"
    if count > (there := cuda_devices()):
        raise RequestError(f"compute.devices is {count} but the driver shows {there} CUDA devices; use fewer")
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
            f"{count} jobs with {each} GPUs each were requested but the driver shows {len(there)}; use"
            f" --jobs {len(there) // each} or less"
        )
    if count == 1:
        return []
    threads = _threads(count)
    if device != "cuda":
        return [threads] * count
    return [threads | {_VISIBLE: ",".join(there[job * each : (job + 1) * each])} for job in range(count)]


def _visible() -> list[str]:
    """Names of the CUDA devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    names = os.environ.get(_VISIBLE, "").split(",")
    if not names[0]:
        return [str(number) for number in range(cuda_devices())]
    if names[0].startswith("MIG-"):  # parts of a GPU, of which CUDA shows a process the first alone
        return names
    return names[: cuda_devices()]


def _threads(jobs: int) -> dict[str, str]:
    """Environment that gives each of so many jobs its part of the cores, and no more than the user allows any process.

    All libraries are told: where torch computes by MKL, it is MKL's number that counts.
    """
    from ctkit.compute.pool import usable_cores
    from ctkit.compute.worker import ONE_THREAD

    allowed = os.environ.get("OMP_NUM_THREADS", "")
    part = max(1, usable_cores() // jobs)
    threads = min(part, int(allowed)) if allowed.isdecimal() and int(allowed) else part
    return dict.fromkeys(ONE_THREAD, str(threads))


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
