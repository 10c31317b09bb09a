from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctkit.contracts import Rows
from ctkit_models.collapse import Probe, collapse, effective_rank, probe_slices
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import plan_run
from ctkit_models.slices import Batches
from ctkit_torch.trunks import Trunk

PLAN = plan_run(ContrastiveParams(batch=8, steps=1000), 256)
CPU = torch.device("cpu")


def rankme(features: np.ndarray) -> float:
    """Garrido et al. 2023, equations 1 and 2, as they are printed."""
    sigma = np.linalg.svd(features, compute_uv=False)
    p = sigma / np.abs(sigma).sum() + 1e-7
    return float(np.exp(-sum(pk * np.log(pk) for pk in p)))


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_effective_rank_is_rankme(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(1).normal(size=shape) * np.geomspace(1, 1e-3, shape[1])
    assert effective_rank(torch.from_numpy(features)) == pytest.approx(rankme(features), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_effective_rank_counts_directions_of_equal_weight(rank: int) -> None:
    basis = torch.linalg.qr(torch.randn(64, rank, generator=torch.Generator().manual_seed(1))).Q
    assert effective_rank(basis @ basis.T) == pytest.approx(rank, rel=1e-3)


def test_effective_rank_of_nothing_and_of_no_numbers() -> None:
    assert effective_rank(torch.zeros(8, 4)) == pytest.approx(1, abs=1e-3)
    assert np.isnan(effective_rank(torch.full((8, 4), torch.nan)))


class Parts(nn.Module):
    """A network with batch statistics, dropout, and a part that its owner has frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.frozen = nn.BatchNorm1d(8).eval()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(tuple(images.shape))
        features: Tensor = self.frozen(self.layers(images))
        return features


def probe_of(rows: Rows, size: int = 16) -> Probe:
    return Probe(Batches(rows, seed=3, batch=8), plan_run(ContrastiveParams(batch=8, steps=40), len(rows)), size)


def test_probing_changes_neither_network_nor_generators(make_rows: Callable[..., Rows]) -> None:
    network = Parts()
    trunk, probe = Trunk(network, "resnet18", 8), probe_of(make_rows(20))
    modes, generator = [part.training for part in trunk.modules()], torch.get_rng_state()
    weights = {name: value.clone() for name, value in trunk.state_dict().items()}
    first, again = (probe.measure(trunk, CPU) for _ in range(2))
    assert first == again
    assert [part.training for part in trunk.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, weights[name]) for name, value in trunk.state_dict().items())
    assert {size[1:] for size in network.sizes} == {(1, 16, 16)}
    assert max(size[0] for size in network.sizes) <= 8, "no more memory than a step takes"


def test_features_are_those_of_normalised_slices(make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(20)
    trunk = Trunk(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()), "resnet18", 1024)
    convolution = trunk.network.get_submodule("0")
    nn.init.ones_(convolution.weight)  # type: ignore[arg-type]
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    pixels = np.concatenate([np.load(shard) for shard in rows.shards]).reshape(20, -1) / 255
    normalised = (pixels - rows.mean) / rows.std
    directions = normalised / np.linalg.norm(normalised, axis=1, keepdims=True)
    measured = probe_of(rows, size=32).measure(trunk, CPU)
    assert measured["feature-std"] == pytest.approx(directions.std(axis=0, ddof=1).mean(), rel=1e-4)
    assert measured["effective-rank"] == pytest.approx(rankme(normalised), rel=1e-4)


def test_the_probe_is_the_same_in_every_sitting_and_another_for_another_seed() -> None:
    plan, small = (plan_run(ContrastiveParams(batch=8, steps=1000), slices) for slices in (1000, 20))
    assert probe_slices(plan, 1).tolist() == probe_slices(plan, 1).tolist() != probe_slices(plan, 2).tolist()
    assert len(set(probe_slices(plan, 1).tolist())) == 256
    assert probe_slices(small, 1).tolist() == list(range(20))


@pytest.mark.parametrize(("steps", "batch", "images"), [(8, 16, 76), (1, 8, 32), (60, 32, 256)])
def test_a_short_training_is_probed_for_a_tenth_of_its_work(steps: int, batch: int, images: int) -> None:
    plan = plan_run(ContrastiveParams(batch=batch, steps=steps), 1000)
    assert len(probe_slices(plan, 1)) == images


@pytest.mark.parametrize(
    ("steps", "batch", "slices", "measured"),
    [(100_000, 128, 20_000, 20), (1000, 32, 1000, 8), (40, 32, 300, 1), (40, 8, 8, 3)],
)
def test_probing_costs_a_hundredth_of_the_training(steps: int, batch: int, slices: int, measured: int) -> None:
    plan = plan_run(ContrastiveParams(batch=batch, steps=steps), slices)
    rows = Rows((), *(np.zeros(slices, np.int64) for _ in range(3)), size=8, mean=0.5, std=0.2)
    probe = Probe(Batches(rows, 1, batch), plan, 8)
    at = [step for step in range(1, steps + 1) if step == steps or probe.due(step)]
    assert len(at) == measured


@pytest.mark.parametrize(
    ("std", "rank", "reason"),
    [
        (1e-9, 1.0, "all slices have nearly the same features"),
        (0.0003, 40.0, "all slices have nearly the same features"),
        (0.01, 1.3, "have one direction: their effective rank is 1.30"),
        (0.01, 7.0, None),
        (float("nan"), float("nan"), "NaN or infinite"),
    ],
)
def test_a_collapse_is_told_by_which_number_shows_it(std: float, rank: float, reason: str | None) -> None:
    found = collapse({"feature-std": std, "effective-rank": rank}, PLAN, width=512)
    assert found is None if reason is None else reason in str(found)


def test_a_handful_of_slices_has_no_rank_to_judge_by() -> None:
    few = plan_run(ContrastiveParams(batch=2, steps=10), 4)
    measured = {"feature-std": 0.02, "effective-rank": 1.9}
    assert collapse(measured, few, width=512) is None
    assert collapse({}, PLAN, width=512) is None
