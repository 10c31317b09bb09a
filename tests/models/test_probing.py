from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ctkit_models.probing import features_of
from ctkit_torch.trunks import Trunk, build_trunk


def test_a_watched_trunk_is_looked_at_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []

    def forward(trunk: Trunk, images: Tensor) -> Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return torch.zeros(len(images), trunk.width)

    monkeypatch.setattr(Trunk, "forward", forward)
    features_of(build_trunk("resnet18"), [torch.zeros(1, 3, 8, 8)])
    assert allowed == [False]
