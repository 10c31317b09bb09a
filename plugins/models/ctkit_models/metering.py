"""What a training costs beside its time: how long the device waits for data, what energy and memory it takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

PENDING = 100  #: measurements on a GPU that may be open at a time


class Meters:
    """Everything that is metered on one device, from the making of this object on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.waiting = Waiting(device)
        self._energy = Energy(device)
        self._peak_bytes()

    def take(self) -> tuple[float, float | None, int | None]:
        """Seconds waited, joules and most bytes of tensors since this was last asked; None where not known."""
        return self.waiting.take(), self._energy.take(), self._peak_bytes()

    def _peak_bytes(self) -> int | None:
        if self._device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(peak)


class TimedLoader:
    """A loader that tells ``waiting`` how long the device has nothing to do until the next batch is there."""

    def __init__(self, loader: DataLoader[Tensor], waiting: Waiting) -> None:
        self._loader = loader
        self._waiting = waiting

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Tensor]:
        with self._waiting.measured():
            batches = iter(self._loader)
        for _ in range(len(self)):
            with self._waiting.measured():
                batch = next(batches)
            yield batch


class Waiting:
    """Adds up the time in which a device waits for data.

    A CPU waits as long as the loader takes. A GPU works on what it was given before: it waits from the end of that to
    the batch, which is the time between two events on its stream, recorded before and after the loader is asked.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds = 0.0
        self._pending: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count what happens inside as waiting."""
        if not self._on_gpu:
            before = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - before
            return
        timed: Any = torch.cuda.Event  # typed in some versions of torch only
        asked, there = timed(enable_timing=True), timed(enable_timing=True)
        asked.record()
        yield
        there.record()
        self._pending.append((asked, there))
        if len(self._pending) > PENDING:
            self._settle()

    def take(self) -> float:
        """Seconds since this was last asked."""
        while self._pending:
            self._settle()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _settle(self) -> None:
        asked, there = self._pending.popleft()
        there.synchronize()
        self._seconds += asked.elapsed_time(there) / 1000


class Energy:
    """Reads the energy counter of a GPU by NVML; silent where there is no GPU, no ``nvidia-ml-py`` or no counter."""

    def __init__(self, device: torch.device) -> None:
        self._read = _counter(device)
        self._before = self._read() if self._read else 0.0

    def take(self) -> float | None:
        """Joules since this was last asked; None where they are unknown."""
        if self._read is None:
            return None
        before, self._before = self._before, self._read()
        return self._before - before


def _counter(device: torch.device) -> Callable[[], float] | None:
    """A function that returns the joules a device has used since its driver was loaded."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        identity = torch.cuda.get_device_properties(device).uuid  # NVML does not know CUDA_VISIBLE_DEVICES
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")

        def joules() -> float:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

        joules()
    except (pynvml.NVMLError, AttributeError):  # an old device, a part of one, or a torch that knows no identity
        return None
    return joules
