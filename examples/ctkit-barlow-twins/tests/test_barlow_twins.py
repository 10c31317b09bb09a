"""The conformance checks of ctkit, the loss against its formula, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ctkit.testing import check_distribution, check_method
from ctkit_barlow_twins.method import BarlowTwins, BarlowTwinsParams
from ctkit_barlow_twins.network import BarlowTwinsNetwork
from ctkit_models import Trunk


def small_network(redundancy: float = 5e-3) -> BarlowTwinsNetwork:
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    return BarlowTwinsNetwork(Trunk(nn.Sequential(*layers), "two layers", 256), 32, redundancy)


def barlow_twins(first: NDArray[np.float64], second: NDArray[np.float64], redundancy: float) -> float:
    """Zbontar et al. 2021, equations 1 and 2, sum by sum."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    loss = 0.0
    for i in range(first.shape[1]):
        for j in range(second.shape[1]):
            length = np.sqrt((first[:, i] ** 2).sum()) * np.sqrt((second[:, j] ** 2).sum())
            correlation = (first[:, i] * second[:, j]).sum() / length
            loss += (1 - correlation) ** 2 if i == j else redundancy * correlation**2
    return float(loss)


@pytest.mark.parametrize("redundancy", [5e-3, 0.5])
def test_the_loss_is_the_papers_equation(redundancy: float) -> None:
    network = small_network(redundancy)
    with torch.no_grad():
        network.head.layers[-1].weight *= 100  # lightly adds 1e-5 to each variance; the equation does not
    views = [torch.rand(16, 1, 24, 24) for _ in range(2)]
    loss = network(views).item()
    with torch.no_grad():
        projected = [network.head(network.trunk(view)).double().numpy() for view in views]
    assert loss == pytest.approx(barlow_twins(*projected, redundancy), rel=1e-3)


def test_it_learns_a_few_slices_by_heart() -> None:
    network = small_network()
    slices = torch.rand(8, 1, 24, 24)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(60):
        loss = network([slices + 0.1 * torch.randn_like(slices) for _ in range(2)])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.3 * losses[0]


def test_it_keeps_the_contract_of_a_method() -> None:
    small = {"backbone": "resnet18", "size": 32, "batch": 8, "steps": 4, "warmup": 0, "checkpoint_minutes": 0}
    check_method(BarlowTwins, BarlowTwinsParams.model_validate({**small, "width": 16}))


def test_its_distribution_announces_what_can_be_used() -> None:
    check_distribution("ctkit-barlow-twins")
