from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctkit_models.networks import SimCLRNetwork
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk


def nt_xent(first: NDArray[np.float64], second: NDArray[np.float64], temperature: float) -> float:
    """Chen et al. 2020, equation 1, written as it is printed there."""
    z = np.concatenate([first, second])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [np.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses.append(-np.log(np.exp(z[i] @ z[j] / temperature) / np.sum(others)))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_papers_equation(temperature: float) -> None:
    with seeded(1):
        network = SimCLRNetwork(
            build_trunk("resnet18", 1), SimCLRParams(hidden=32, projection=16, temperature=temperature)
        )
        views = [torch.rand(5, 1, 32, 32) for _ in range(2)]
    loss = network(views)
    with torch.no_grad():
        projected = [network.head(network.trunk(view)).double().numpy() for view in views]
    assert loss.item() == pytest.approx(nt_xent(projected[0], projected[1], temperature), rel=1e-5)


@pytest.mark.usefixtures("small_trunk")
def test_it_learns_to_tell_a_few_slices_apart(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], textures: NDArray[np.uint8], easy: dict[str, Any]
) -> None:
    done = SimCLR(SimCLRParams(**easy)).pretrain(make_job(make_rows(pixels=textures)))
    losses = [value for _, name, value in done.history if name == "loss"]
    assert losses[0] > 1.5, "chance is log 15 = 2.7"
    assert np.mean(losses[-5:]) < 0.5


def test_the_defaults_are_the_papers() -> None:
    params = SimCLRParams()
    assert (params.batch, params.epochs, params.temperature, params.projection) == (128, 800, 0.1, 128)
    assert (params.optimiser, params.learning_rate, params.rate_batch, params.schedule) == ("lars", 0.3, 256, "cosine")
    assert (params.size, params.scale) == (224, (0.2, 1.0))
