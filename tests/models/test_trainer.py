from __future__ import annotations

import pytest
import torch
from torch import nn

from ctkit_models import trainer
from ctkit_models.trainer import SharedStatistics
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import Trunk, build_trunk


def norms(trunk: nn.Module) -> list[nn.Module]:
    return [module for module in trunk.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def assert_shared(architecture: str) -> None:
    with seeded(1):
        trunk = build_trunk(architecture, 1).eval()
    images, names = torch.rand(2, 1, 64, 64), list(trunk.state_dict())
    before = trunk(images)
    shared = SharedStatistics().apply(trunk)
    assert isinstance(shared, Trunk)
    assert norms(shared)
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(shared))
    assert list(shared.state_dict()) == names
    for same in (shared, SharedStatistics().revert(shared)):
        torch.testing.assert_close(same(images), before, rtol=0, atol=0)


def test_a_network_of_torchvision_shares_statistics_and_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    assert_shared("resnet18")


@pytest.mark.parametrize("architecture", ["mobilenetv3_small_050", "regnety_002"])
def test_a_network_of_timm_keeps_the_activations_in_its_normalisation(architecture: str) -> None:
    pytest.importorskip("timm")
    assert_shared(architecture)
