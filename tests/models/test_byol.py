from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctkit_models.byol import BYOL, BYOLParams
from ctkit_models.networks import BYOLNetwork
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk

SMALL = {"hidden": 32, "projection": 16}


def built(steps: int = 10) -> BYOLNetwork:
    with seeded(1):
        return BYOLNetwork(build_trunk("resnet18", 1), BYOLParams(**SMALL, target_momentum=0.996), steps)


def some_views(n: int = 6, local: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(n, 1, size, size, generator=generator) for size in [32, 32] + [24] * local]


@pytest.mark.parametrize("local", [0, 2])
def test_the_loss_is_the_papers_up_to_its_constants(local: int) -> None:
    network, views = built(), some_views(local=local)
    loss = network(views)
    with torch.no_grad():
        predictions = [network.predictor(network.head(network.trunk(view))).double().numpy() for view in views]
        targets = [network.target_head(network.target_trunk(view)).double().numpy() for view in views[:2]]
    squares = []
    for i, prediction in enumerate(predictions):
        for j, target in enumerate(targets):
            if i != j:
                p, z = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (prediction, target))
                squares.append(np.square(p - z).sum(axis=1).mean())  # Grill et al. 2020, equation 2
    assert 2 + 2 * loss.item() == pytest.approx(np.mean(squares), rel=1e-4)


def test_the_target_follows_ever_more_slowly() -> None:
    network = built(steps=3)
    moved = []
    for step in (0, 1, 2):
        before = network.target_head.layers[0].weight.clone()
        with torch.no_grad():
            network.head.layers[0].weight.copy_(before + 1)
        network.after_step(step)
        moved.append((network.target_head.layers[0].weight - before).mean().item())
    assert moved == pytest.approx([0.004, 0.002, 0.0], abs=1e-5)


def test_no_gradient_reaches_the_target() -> None:
    network = built()
    network(some_views()).backward()
    assert all(parameter.grad is None for parameter in network.target_trunk.parameters())
    assert all(parameter.grad is not None for parameter in network.predictor.parameters())


@pytest.mark.usefixtures("small_trunk")
def test_it_learns(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], textures: NDArray[np.uint8], easy: dict[str, Any]
) -> None:
    settings = {**easy, **SMALL, "steps": 60, "target_momentum": 0.9}
    done = BYOL(BYOLParams(**settings)).pretrain(make_job(make_rows(pixels=textures)))
    losses = [value for _, name, value in done.history if name == "loss"]
    assert np.mean(losses[-5:]) < -0.7 < -0.3 < np.mean(losses[:3]), "-1 is a perfect prediction"


@pytest.mark.usefixtures("small_trunk")
def test_a_killed_training_ends_as_one_that_was_not(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], make_watcher: Callable[..., Any]
) -> None:
    rows = make_rows()
    settings = {"backbone": "resnet18", "size": 32, "batch": 8, "steps": 4, "checkpoint_minutes": 0}
    method = BYOL(BYOLParams(**{**settings, **SMALL}))
    undisturbed = method.pretrain(make_job(rows, "undisturbed"))
    with pytest.raises(RuntimeError, match="killed"):
        method.pretrain(make_job(rows, "killed", make_watcher(3)))
    resumed = method.pretrain(make_job(rows, "killed"))
    assert resumed.history == undisturbed.history
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


def test_the_defaults_are_the_papers() -> None:
    params = BYOLParams()
    assert (params.batch, params.epochs, params.local_views) == (64, 1000, 0)
    assert (params.optimiser, params.learning_rate, params.weight_decay) == ("adam", 1e-3, 1.5e-6)
    assert (params.hidden, params.projection, params.target_momentum) == (4096, 256, 0.996)
