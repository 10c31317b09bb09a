from __future__ import annotations

import pytest
import torch

from ctkit_torch.precision import exact_convolutions


def test_tf32_is_allowed_again_after_an_error() -> None:
    before = torch.backends.cudnn.allow_tf32

    def fail() -> None:
        with exact_convolutions():
            assert not torch.backends.cudnn.allow_tf32
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.backends.cudnn.allow_tf32 == before
