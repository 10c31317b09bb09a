from __future__ import annotations

import pytest

from ctkit import devices
from ctkit.errors import RequestError


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
    assert devices.resolve(asked, count) == found


@pytest.mark.parametrize(
    ("asked", "count", "there", "message"),
    [("cuda", 1, 0, "shows no CUDA device"), ("auto", 4, 2, "devices is 4 but the driver shows 2 CUDA devices")],
)
def test_devices_that_are_not_there_are_refused(asked, count, there, message, monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: there)
    with pytest.raises(RequestError, match=message):
        devices.resolve(asked, count)
