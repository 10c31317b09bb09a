from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ctkit.contracts import Pretrained, Pretraining
from ctkit_models import Contrastive, ContrastiveParams, Network, Plan, Trunk
from ctkit_models.acceleration import blocks, checkpoint_blocks, compile_trunks
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk

Make = Callable[..., Any]
TINY = {"backbone": "resnet18", "size": 32, "steps": 4, "batch": 8, "checkpoint_minutes": 0}


def losses(done: Pretrained) -> list[float]:
    return [value for _, name, value in done.history if name == "loss"]


def simclr(job: Pretraining, **params: Any) -> list[float]:
    return losses(SimCLR(SimCLRParams(**{**TINY, **params})).pretrain(job))


# --- gradient checkpointing ---------------------------------------------------------------------------------------


def backward(trunk: Trunk) -> tuple[dict[str, Tensor], int]:
    """State and gradients after one pass over fixed images, and the bytes that were kept for the way back."""
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes if tensor.grad_fn is not None else 0  # weights and images are there anyway
        return tensor

    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trunk(images).pow(2).mean()
    loss.backward()
    gradients = {
        f"gradient of {name}": value.grad for name, value in trunk.named_parameters() if value.grad is not None
    }
    return {**trunk.state_dict(), **gradients}, kept


def test_checkpointing_changes_neither_gradients_nor_statistics_and_keeps_less() -> None:
    results = []
    for checkpointing in (False, True):
        with seeded(3):
            trunk = build_trunk("resnet18", 1)
        names = list(trunk.state_dict())
        if checkpointing:
            checkpoint_blocks(trunk)
        assert list(trunk.state_dict()) == names
        results.append(backward(trunk))
    (plain, all_kept), (again, kept) = results
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        assert torch.equal(again[name], value), name
    assert kept < all_kept / 2


@pytest.mark.parametrize(
    ("architecture", "kind", "count"),
    [("resnet50", "Bottleneck", 16), ("convnext_tiny", "CNBlock", 18), ("vit_b_32", "EncoderBlock", 12)],
)
def test_the_blocks_of_a_trunk_are_what_it_repeats(architecture: str, kind: str, count: int) -> None:
    with torch.device("meta"):
        trunk = build_trunk(architecture)
    assert [type(block).__name__ for block in blocks(trunk.network)] == [kind] * count


def test_a_network_that_repeats_nothing_is_one_block() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
    assert blocks(network) == [network]


@pytest.mark.usefixtures("small_trunk")
def test_a_checkpointed_training_has_the_same_bytes(make_rows: Make, make_job: Make) -> None:
    rows = make_rows()
    params = SimCLRParams(**TINY)
    plain = SimCLR(params).pretrain(make_job(rows, "plain"))
    again = SimCLR(params.model_copy(update={"checkpointing": True})).pretrain(make_job(rows, "again"))
    assert plain.backbone.read_bytes() == again.backbone.read_bytes()


# --- layout and compilation ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_trunk")
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_gives_the_same_losses_and_names(channels: int, make_rows: Make, make_job: Make) -> None:
    rows = make_rows()
    plain = simclr(make_job(rows, "plain"), channels_last=False, channels=channels)
    last = simclr(make_job(rows, "last"), channels_last=True, channels=channels)
    np.testing.assert_allclose(last, plain, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")  # torch's advice, for this one release
@pytest.mark.usefixtures("small_trunk")
def test_a_compiled_trunk_gives_the_same_losses(
    make_rows: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows()
    plain = simclr(make_job(rows, "plain"))
    captured = []

    def backend(graph: Any, inputs: Any) -> Any:
        captured.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compiled = simclr(make_job(rows, "compiled"), compile=True)
    assert len(captured) == 1, "one graph for the one size of views"
    np.testing.assert_allclose(compiled, plain, rtol=1e-5)


def test_trunks_that_are_compiled_later_are_compiled_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    for channels in range(1, torch._dynamo.config.recompile_limit + 3):
        network = Twice(Trunk(nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten()), "made-up", 2))
        compile_trunks(network)
        assert network.trunk(torch.ones(2, channels, 3, 3)).shape == (2, 2)


class Twice(Network):
    def forward(self, views: list[Tensor]) -> Tensor:
        raise NotImplementedError


@pytest.mark.slow
@pytest.mark.usefixtures("small_trunk")
def test_torchs_own_compiler_gives_the_same_losses(make_rows: Make, make_job: Make) -> None:
    rows = make_rows()
    plain = simclr(make_job(rows, "plain"))
    np.testing.assert_allclose(simclr(make_job(rows, "compiled"), compile=True), plain, rtol=1e-4)


# --- accumulated parts --------------------------------------------------------------------------------------------


class AsideNetwork(Network):
    """A loss that is a mean over slices, without batch statistics: parts of a batch add up to it."""

    def forward(self, views: list[Tensor]) -> Tensor:
        one, other = (self.trunk(view) for view in views)
        return (one - other).pow(2).mean()


class Aside(Contrastive[ContrastiveParams]):
    def network(self, trunk: Trunk, plan: Plan) -> Network:
        torch.manual_seed(1)
        layers = (nn.Conv2d(1, 16, 5, stride=2), nn.GroupNorm(4, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        return AsideNetwork(Trunk(nn.Sequential(*layers), trunk.architecture, 64))


def aside(job: Pretraining, accumulate: int) -> Pretrained:
    settings = {**TINY, "optimiser": "sgd", "learning_rate": 0.5, "accumulate": accumulate}
    return Aside(ContrastiveParams.model_validate(settings)).pretrain(job)


@pytest.mark.usefixtures("small_trunk")
@pytest.mark.parametrize("parts", [2, 4])
def test_parts_add_up_to_the_batch(parts: int, make_rows: Make, make_job: Make, make_watcher: Make) -> None:
    rows, watcher = make_rows(), make_watcher()
    whole = aside(make_job(rows, "whole"), 1)
    added = aside(make_job(rows, "parts", watcher), parts)
    assert watcher.steps == [(step, 4) for step in (1, 2, 3, 4)]
    assert (added.batch, added.steps) == (whole.batch, whole.steps) == (8, 4)
    np.testing.assert_allclose(losses(added), losses(whole), rtol=1e-5)
    assert len(set(losses(whole))) == 4


@pytest.mark.usefixtures("small_trunk")
def test_an_accumulating_training_killed_at_a_step_ends_as_one_that_was_not(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows = make_rows()
    undisturbed = aside(make_job(rows, "undisturbed"), 2)
    with pytest.raises(RuntimeError, match="killed"):
        aside(make_job(rows, "killed", make_watcher(2)), 2)
    resumed = aside(make_job(rows, "killed"), 2)
    assert resumed.history == undisturbed.history
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()
