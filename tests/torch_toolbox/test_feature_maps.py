from __future__ import annotations

import numpy as np
import pytest
import torch

from ctkit.errors import RequestError
from ctkit_torch.feature_maps import FeatureMaps
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk


def test_the_maps_of_a_resnet_are_those_of_its_stem_and_layers() -> None:
    with seeded(0):
        trunk = build_trunk("resnet18")
    maps, network, images = FeatureMaps(trunk, 64).eval(), trunk.network, torch.rand(2, 3, 64, 64)
    x = network.relu(network.bn1(network.conv1(images)))
    expected = [x]
    x = network.maxpool(x)
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)
        expected.append(x)
    for found, one in zip(maps(images), expected, strict=True):
        assert torch.equal(found, one)
    assert [scale.stride for scale in maps.scales] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("architecture", ["convnext_tiny", "densenet121"])
def test_each_scale_halves_the_one_before(architecture: str) -> None:
    maps = FeatureMaps(build_trunk(architecture), 64)
    found = maps(torch.rand(2, 3, 64, 64))
    assert [one.shape[2] for one in found] == [64 // scale.stride for scale in maps.scales]
    assert [one.shape[1] for one in found] == [scale.channels for scale in maps.scales]
    strides = np.array([scale.stride for scale in maps.scales])
    assert strides[-1] == 32
    assert (strides[1:] == 2 * strides[:-1]).all()


def test_gradients_reach_the_first_layer_through_every_map() -> None:
    trunk = build_trunk("resnet18")
    maps = FeatureMaps(trunk, 32)
    for number in range(len(maps.scales)):
        trunk.zero_grad()
        maps(torch.rand(2, 3, 32, 32))[number].square().sum().backward()
        assert trunk.network.conv1.weight.grad.abs().sum() > 0


def test_a_transformer_is_refused() -> None:
    with pytest.raises(RequestError, match="vit_b_16 has no feature maps at 1/4, 1/8, 1/16 and 1/32"):
        FeatureMaps(build_trunk("vit_b_16"), 32)
