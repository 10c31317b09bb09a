from __future__ import annotations

import warnings

import pytest

import ctkit_models
from ctkit_torch.precision import unusable


@pytest.mark.parametrize(
    ("built", "said"), [(None, "is built without CUDA; install"), ("11.8", "is built for CUDA 11.8; install")]
)
def test_why_torch_cannot_use_a_gpu_is_how_it_was_built(
    built: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr("torch.cuda.is_available", too_old)
    monkeypatch.setattr("torch.version.cuda", built)
    assert f"this torch cannot use it, because it {said}" in str(unusable())
    assert ctkit_models.ctkit_check_device("cuda") == unusable()
    assert ctkit_models.ctkit_check_device("cpu") is None


def test_a_gpu_that_torch_can_use_has_nothing_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert unusable() is None
