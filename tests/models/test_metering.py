from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ctkit_models import metering
from ctkit_models.metering import Energy, Meters, TimedLoader, Waiting

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowReading(Dataset[Tensor]):
    """Each element takes two seconds to read."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Tensor:
        self.clock.now += 2
        return torch.tensor(number)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(metering, "time", clock)
    return clock


def test_a_cpu_waits_while_the_loader_reads_and_not_while_it_trains(clock: Clock) -> None:
    waiting = Waiting(CPU)
    loader = TimedLoader(DataLoader(SlowReading(clock), batch_size=None), waiting)
    seen = []
    for batch in loader:
        clock.now += 5
        seen.append(int(batch))
    assert seen == [0, 1, 2]
    assert len(loader) == 3
    assert (clock.now, waiting.take()) == (21, 6)
    assert waiting.take() == 0, "it is told once"


class Event:
    """A CUDA event on a stream whose times are given."""

    times: Iterator[float]

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = next(self.times)

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, other: Event) -> float:
        return other.at - self.at


def test_a_gpu_waits_as_long_as_its_stream_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.times = iter([value for step in range(300) for value in (1000.0 * step, 1000.0 * step + 10)])
    waiting = Waiting(GPU)
    for _ in range(300):
        with waiting.measured():
            pass
        assert len(waiting._pending) <= metering.PENDING
    assert waiting.take() == pytest.approx(3.0)


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """NVML of a GPU that has used 5 J since its driver was loaded."""
    fake = SimpleNamespace(NVMLError=NVMLError, millijoules=5000, asked=[])
    fake.nvmlInit = lambda: None
    fake.nvmlDeviceGetHandleByUUID = lambda identity: fake.asked.append(identity) or "handle"
    fake.nvmlDeviceGetTotalEnergyConsumption = lambda handle: fake.millijoules
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    return fake


def test_energy_is_what_the_counter_gained_on_the_device_that_trains(nvml: SimpleNamespace) -> None:
    energy = Energy(GPU)
    nvml.millijoules += 1500
    assert energy.take() == 1.5
    nvml.millijoules += 250
    assert energy.take() == 0.25
    assert nvml.asked == ["GPU-abc"]


def no_counter(*_: Any) -> Any:
    raise NVMLError("not supported")


@pytest.mark.parametrize("without", ["library", "driver", "counter", "identity"])
def test_where_energy_is_not_known_nothing_is_said(
    without: str, nvml: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    match without:
        case "library":
            monkeypatch.setitem(sys.modules, "pynvml", None)
        case "driver":
            nvml.nvmlInit = no_counter
        case "counter":
            nvml.nvmlDeviceGetTotalEnergyConsumption = no_counter
        case "identity":
            monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    assert Energy(GPU).take() is None


@pytest.mark.usefixtures("nvml")
def test_a_cpu_has_neither_energy_nor_memory_to_tell() -> None:
    assert Meters(CPU).take()[1:] == (None, None)


def test_the_peak_is_that_since_it_was_last_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = [7]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[-1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.append(3))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meters = Meters(GPU)
    peaks.append(9)
    assert meters.take()[2] == 9
    assert meters.take()[2] == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_waits_for_a_loader_that_dawdles() -> None:
    waiting = Waiting(GPU)
    with waiting.measured():
        torch.zeros(1, device=GPU)
        torch.cuda.synchronize()
    assert 0 <= waiting.take() < 10
