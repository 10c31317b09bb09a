from __future__ import annotations

import pytest

from ctkit import compute
from ctkit.compute import devices
from ctkit.compute.worker import ONE_THREAD
from ctkit.errors import RequestError


def usable() -> None:
    """What plugins say of a GPU that they can use."""


@pytest.mark.parametrize(
    ("asked", "count", "there", "found"),
    [
        ("auto", 1, 0, "cpu"),
        ("auto", 4, 0, "cpu"),
        ("auto", 2, 2, "cuda"),
        ("cpu", 4, 2, "cpu"),
        ("cuda", 1, 1, "cuda"),
    ],
)
def test_the_device_is_what_is_asked_for_and_there(asked, count, there, found, monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: there)
    assert devices.resolve(asked, count, usable) == found


@pytest.mark.parametrize(
    ("asked", "count", "there", "message"),
    [("cuda", 1, 0, "shows no CUDA device"), ("auto", 4, 2, "devices is 4 but the driver shows 2 CUDA devices")],
)
def test_devices_that_are_not_there_are_refused(asked, count, there, message, monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: there)
    with pytest.raises(RequestError, match=message):
        devices.resolve(asked, count, usable)


def test_a_gpu_that_plugins_cannot_use_is_left_alone_or_said_to_be_the_trouble(monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    assert devices.resolve("auto", 4, lambda: "it is too old; buy another") == "cpu"
    with pytest.raises(RequestError, match=r'compute\.device is "cuda": it is too old; buy another, or use "cpu"'):
        devices.resolve("cuda", 1, lambda: "it is too old; buy another")


def test_plugins_are_asked_only_where_there_is_a_gpu_and_it_is_wanted(monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
    assert devices.resolve("auto", 1, lambda: pytest.fail("asked")) == "cpu"
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    assert devices.resolve("cpu", 1, lambda: pytest.fail("asked")) == "cpu"


@pytest.mark.parametrize(
    ("jobs", "each", "visible", "found"),
    [
        (1, 1, None, []),
        ("auto", 1, None, ["0", "1", "2", "3"]),
        ("auto", 2, None, ["0,1", "2,3"]),
        ("auto", 3, None, []),
        (3, 1, None, ["0", "1", "2"]),
        (2, 1, "7,5,3,1", ["7", "5"]),
        (2, 2, "GPU-a,GPU-b,GPU-c,GPU-d", ["GPU-a,GPU-b", "GPU-c,GPU-d"]),
        ("auto", 1, "", ["0", "1", "2", "3"]),
    ],
)
def test_every_job_has_gpus_of_its_own(jobs, each, visible, found, monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: 4)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in devices.shares("cuda", jobs, each)] == found


def test_more_jobs_than_there_are_gpus_for_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(RequestError, match=r"3 jobs with 2 GPUs each .* shows 4; use --jobs 2 or less"):
        devices.shares("cuda", 3, 2)


@pytest.mark.parametrize(
    ("jobs", "each", "allowed", "threads"),
    [
        (2, 1, None, "8"),
        (4, 1, None, "4"),
        (2, 4, None, "8"),
        (32, 1, None, "1"),
        (2, 1, "3", "3"),
        (2, 1, "64", "8"),
    ],
)
def test_jobs_on_the_cpu_share_its_cores(jobs, each, allowed, threads, monkeypatch):
    monkeypatch.setattr(compute.pool, "usable_cores", lambda: 16)
    if allowed is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert devices.shares("cpu", jobs, each) == [dict.fromkeys(ONE_THREAD, threads)] * jobs


def test_parts_of_a_gpu_are_shared_out_though_cuda_shows_the_first_alone(monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b,MIG-c")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in devices.shares("cuda", "auto")] == ["MIG-a", "MIG-b", "MIG-c"]


def test_auto_is_one_job_on_the_cpu():
    assert devices.shares("cpu", "auto") == []
