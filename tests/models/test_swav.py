from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctkit_models.networks import SwAVNetwork
from ctkit_models.swav import SwAV, SwAVParams
from ctkit_models.views import Normalise
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk

SMALL = {"projection": 16, "hidden": 32, "prototypes": 10}
LOSS = {"temperature": 0.1, "sinkhorn_iterations": 3, "epsilon": 0.05}


def built(frozen_steps: int = 0) -> SwAVNetwork:
    with seeded(1):
        return SwAVNetwork(build_trunk("resnet18", 1), SwAVParams(**SMALL, **LOSS), frozen_steps)


def some_views(n: int = 6, local: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(n, 1, size, size, generator=generator) for size in [32, 32] + [24] * local]


def sinkhorn(scores: NDArray[np.float64], iterations: int, epsilon: float) -> NDArray[np.float64]:
    """Assignments (n, k) that use each prototype alike: rows sum to 1, columns nearly to n / k."""
    assignment = np.exp(scores / epsilon)
    n, k = scores.shape
    for _ in range(iterations):
        assignment = assignment / assignment.sum(axis=0) * (n / k)
        assignment = assignment / assignment.sum(axis=1, keepdims=True)
    return assignment


def swapped_prediction(scores: list[NDArray[np.float64]], temperature: float) -> float:
    """Caron et al. 2020, equation 6: the mean over each large view's assignment, predicted from each other view."""
    losses = []
    for i in (0, 1):
        assignment = sinkhorn(scores[i], 3, 0.05)
        for j, other in enumerate(scores):
            if j != i:
                shifted = other / temperature
                predicted = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
                losses.append(-(assignment * predicted).sum(axis=1).mean())
    return float(np.mean(losses))


@pytest.mark.parametrize("local", [0, 2])
def test_the_loss_is_the_papers_equation(local: int) -> None:
    network, views = built(), some_views(local=local)
    loss = network(views)
    with torch.no_grad():
        scores = []
        for group in (views[:2], views[2:]):
            if group:
                projected = network.head(network.trunk(torch.cat(group))).double()
                projected = projected / projected.norm(dim=1, keepdim=True)
                scores += list((projected @ network.prototypes.weight.double().T).chunk(len(group)))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(swapped_prediction([x.numpy() for x in scores], 0.1), rel=1e-4)


def test_prototypes_have_length_one_from_the_start_and_after_each_step() -> None:
    network = built()
    lengths = [network.prototypes.weight.norm(dim=1)]
    with torch.no_grad():
        network.prototypes.weight.mul_(3)
    network.after_step(0)
    lengths.append(network.prototypes.weight.norm(dim=1))
    for length in lengths:
        torch.testing.assert_close(length, torch.ones(10))


def test_prototypes_stay_for_the_frozen_steps_and_then_move() -> None:
    network = built(frozen_steps=2)
    moved = []
    for step in (0, 1, 2):
        network.zero_grad()
        network(some_views()).backward()
        network.after_backward(step)
        moved.append(network.prototypes.weight.grad is not None)
    assert moved == [False, False, True]


@pytest.mark.parametrize(
    ("given", "frozen_steps"),
    [({"epochs": 50}, 7), ({"epochs": 50, "frozen": 3}, 21), ({"steps": 100}, 7), ({"steps": 100, "frozen": 3}, 3)],
)
def test_the_frozen_part_is_counted_in_the_runs_unit(given: dict[str, int], frozen_steps: int) -> None:
    from ctkit_models.plan import plan_run

    method = SwAV(SwAVParams(**SMALL, **given))
    network = method.network(build_trunk("resnet18", 1), plan_run(method.params, 1000))
    assert isinstance(network, SwAVNetwork)
    assert network.frozen_steps == frozen_steps


def test_there_are_two_large_views_and_six_small_ones_of_three_sevenths() -> None:
    sizes = [view.transforms[0] for view in SwAV().views(Normalise(0.5, 0.5))]
    assert [(crop.size, crop.scale) for crop in sizes] == [(224, (0.9, 1.0))] * 2 + [(96, (0.1, 0.33))] * 6


@pytest.mark.usefixtures("small_trunk")
def test_it_learns(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], textures: NDArray[np.uint8], easy: dict[str, Any]
) -> None:
    small = {"local_views": 1, "local_size": 24, "local_scale": (0.5, 0.9)}
    done = SwAV(SwAVParams(**{**easy, **SMALL, **small, "steps": 60})).pretrain(make_job(make_rows(pixels=textures)))
    losses = [value for _, name, value in done.history if name == "loss"]
    assert np.mean(losses[-5:]) < 1.6 < 2.3 < np.mean(losses[:3]), "chance is log 10 = 2.3"


@pytest.mark.usefixtures("small_trunk")
def test_a_killed_training_ends_as_one_that_was_not(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], make_watcher: Callable[..., Any]
) -> None:
    rows = make_rows()
    settings = {"backbone": "resnet18", "size": 32, "batch": 8, "steps": 4, "checkpoint_minutes": 0}
    method = SwAV(SwAVParams(**{**settings, **SMALL, "local_views": 1, "local_size": 24}))
    undisturbed = method.pretrain(make_job(rows, "undisturbed"))
    with pytest.raises(RuntimeError, match="killed"):
        method.pretrain(make_job(rows, "killed", make_watcher(3)))
    resumed = method.pretrain(make_job(rows, "killed"))
    assert resumed.history == undisturbed.history
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


def test_the_defaults_are_the_papers() -> None:
    params = SwAVParams()
    assert (params.batch, params.epochs, params.temperature, params.prototypes) == (128, 800, 0.1, 500)
    assert (params.optimiser, params.learning_rate, params.weight_decay, params.trust) == ("lars", 0.15, 1e-6, 0.001)
    assert (params.jitter_p, params.blur_p, params.flip_horizontal, params.flip_vertical) == (0.8, 0.5, 0, 0)
    assert (params.hidden, params.projection, params.sinkhorn_iterations, params.epsilon) == (2048, 128, 3, 0.05)
