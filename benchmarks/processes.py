"""Measuring in processes of their own: what one leaves behind, or dies of, is not the next one's trouble."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

Result = TypeVar("Result")

# Who asks torch for a GPU has begun to use it, and cannot fork any more, unless torch is to ask NVML.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")


def alone(measure: Callable[..., Result], *arguments: Any) -> Result:
    """What ``measure`` finds in a process that has all imports of this one. This one must not have used a GPU."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork"), initializer=end_with_parent) as process:
        return process.submit(measure, *arguments).result()


def tried(measure: Callable[..., Result], *arguments: Any) -> Result | str:
    """The same, or in words why nothing was found."""
    try:
        return alone(measure, *arguments)
    except Exception as error:  # whatever a device or a library does costs this figure alone
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def end_with_parent() -> None:
    """Have Linux end this process when the one that started it ends, even where that is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
