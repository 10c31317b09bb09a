from __future__ import annotations

import pytest
import torch
import torchvision

from ctkit.errors import RequestError
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk

FAMILIES = ["resnet18", "resnet50", "convnext_tiny", "vit_b_32"]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_trunk_is_torchvisions_network_without_its_classifier(architecture: str) -> None:
    with seeded(1):
        trunk = build_trunk(architecture).eval()
    full = torchvision.models.get_model(architecture, weights=None)
    missing, unexpected = full.load_state_dict(trunk.weights(), strict=False)
    assert not unexpected
    assert len(missing) == 2, "only the classifier's weight and bias"
    classifier = full.get_submodule(missing[0].rpartition(".")[0])
    seen: list[torch.Tensor] = []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        full.eval()(images)
        features = trunk(images)
    assert features.shape == (2, trunk.width)
    torch.testing.assert_close(features, seen[0])


@pytest.mark.parametrize("architecture", ["resnet18", "convnext_tiny"])
def test_a_grey_trunk_exports_weights_that_see_the_same_in_a_repeated_image(architecture: str) -> None:
    with seeded(2):
        grey = build_trunk(architecture, channels=1).eval()
        colour = build_trunk(architecture, channels=3).eval()
    colour.load(grey.weights())
    assert (grey.channels, colour.channels) == (1, 3)
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(colour(images.repeat(1, 3, 1, 1)), grey(images), rtol=1e-4, atol=1e-5)


def test_weights_for_three_channels_load_into_a_grey_trunk() -> None:
    with seeded(3):
        grey, colour = build_trunk("resnet18", channels=1).eval(), build_trunk("resnet18").eval()
    grey.load(colour.weights())
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grey(images), colour(images.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_a_vision_transformer_takes_images_of_other_sizes_than_it_was_built_for() -> None:
    trunk = build_trunk("vit_b_32").eval()
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 96, 64)).shape == (1, 768)


def test_an_unknown_name_is_refused_with_the_nearest_valid_one() -> None:
    with pytest.raises(ValueError, match="no network is called 'resnet51'; did you mean 'resnet50'"):
        build_trunk("resnet51")


def test_initial_weights_depend_on_the_seed_alone_and_leave_global_numbers_untouched() -> None:
    before = torch.get_rng_state()
    weights = []
    for seed in (5, 5, 6):
        with seeded(seed):
            weights.append(build_trunk("resnet18").weights()["conv1.weight"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("architecture", ["resnet18d", "tf_efficientnet_b0", "mobilenetv3_small_050"])
def test_a_grey_network_of_timm_exports_weights_that_see_the_same(architecture: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    with seeded(4):
        grey, colour = build_trunk(architecture, channels=1).eval(), build_trunk(architecture).eval()
    colour.load(grey.weights())
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        features, expected = grey(images), colour(images.repeat(1, 3, 1, 1))
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert features.shape == (2, grey.width)


def test_a_network_whose_first_layer_needs_three_channels_refuses_one() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    with pytest.raises(
        RequestError, match="resnetv2_50x1_bit normalises its weights over 3 channels; set channels = 3"
    ):
        build_trunk("resnetv2_50x1_bit", channels=1)
    assert build_trunk("resnetv2_50x1_bit").channels == 3
