from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctkit_models.moco import MoCo, MoCoParams
from ctkit_models.networks import MoCoNetwork
from ctkit_models.plan import plan_run
from ctkit_torch.seeding import seeded
from ctkit_torch.trunks import build_trunk


def built(queue: int = 12, *, linear: bool = False, key_momentum: float = 0.999) -> MoCoNetwork:
    head: Literal["mlp", "linear"] = "linear" if linear else "mlp"
    params = MoCoParams(projection=16, head=head, temperature=0.07, key_momentum=key_momentum)
    with seeded(1):
        return MoCoNetwork(build_trunk("resnet18", 1), params, queue)


def two_views(n: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(n, 1, 32, 32, generator=generator) for _ in range(2)]


def info_nce(
    query: NDArray[np.float64], key: NDArray[np.float64], queue: NDArray[np.float64], temperature: float
) -> float:
    """He et al. 2020, equation 1: queries and keys (n, d), queue (k, d) of keys of length 1."""
    query, key = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
    losses = []
    for q, k in zip(query, key, strict=True):
        alike = np.exp(q @ k / temperature)
        losses.append(-np.log(alike / (alike + np.exp(queue @ q / temperature).sum())))
    return float(np.mean(losses))


@pytest.mark.parametrize("linear", [False, True], ids=["mlp", "linear"])
def test_the_loss_is_the_papers_equation(linear: bool) -> None:
    network, views = built(linear=linear), two_views()
    queue = network.criterion.memory_bank.bank.double().numpy().copy()
    loss = network(views)
    with torch.no_grad():
        query = network.head(network.trunk(views[0])).double().numpy()
        key = network.key_head(network.key_trunk(views[1])).double().numpy()
    assert loss.item() == pytest.approx(info_nce(query, key, queue, 0.07), rel=1e-5)


def test_keys_enter_the_queue_in_order_and_push_out_the_oldest() -> None:
    network, keys = built(queue=12), []
    for n in (4, 4, 4, 4):
        views = two_views(n)
        views[1] = views[1] * (len(keys) + 1)
        with torch.no_grad():
            keys.append(torch.nn.functional.normalize(network.key_head(network.key_trunk(views[1])), dim=1))
        network(views)
    bank = network.criterion.memory_bank.bank
    torch.testing.assert_close(bank, torch.cat([keys[3], keys[1], keys[2]]))


def test_the_queue_and_its_place_are_in_the_state() -> None:
    network = built(queue=12)
    network(two_views(5))
    restored = built(queue=12)
    restored.load_state_dict(network.state_dict())
    for name in ("bank", "bank_ptr"):
        assert torch.equal(getattr(restored.criterion.memory_bank, name), getattr(network.criterion.memory_bank, name))
    assert int(restored.criterion.memory_bank.bank_ptr) == 5


def test_the_key_network_starts_alike_and_follows_by_its_momentum() -> None:
    network = built(key_momentum=0.9)
    before = [parameter.clone() for parameter in network.key_trunk.parameters()]
    for key, query in zip(network.key_trunk.parameters(), network.trunk.parameters(), strict=True):
        assert torch.equal(key, query)
        assert not key.requires_grad
    with torch.no_grad():
        for parameter in network.trunk.parameters():
            parameter.add_(1)
    network.after_step(0)
    for key, old in zip(network.key_trunk.parameters(), before, strict=True):
        torch.testing.assert_close(key, old + 0.1, rtol=1e-5, atol=1e-6)


def test_no_gradient_reaches_the_key_network() -> None:
    network = built()
    network(two_views()).backward()
    assert all(parameter.grad is None for parameter in network.key_trunk.parameters())
    assert all(parameter.grad is not None for parameter in network.trunk.parameters())


@pytest.mark.parametrize(
    ("slices", "batch", "queue", "notes"),
    [
        (100_000, 128, 65536, 0),
        (43, 43, 43, 2),
        (300, 128, 256, 1),
    ],
)
def test_batch_and_queue_are_lowered_to_the_arm_and_that_is_said(
    slices: int, batch: int, queue: int, notes: int
) -> None:
    method = MoCo()
    plan = plan_run(method.params, slices)
    assert (plan.batch, method.queue(plan)) == (batch, queue)
    said = method.notes(plan)
    assert len(said) == notes
    if notes:
        assert said[-1].startswith(f"queue lowered from 65536 to {queue}: the arm has {slices} slices")


@pytest.mark.usefixtures("small_trunk")
def test_an_arm_of_43_slices_trains_and_resumes_with_its_queue(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], make_watcher: Callable[..., Any]
) -> None:
    rows = make_rows(43)
    method = MoCo(MoCoParams(backbone="resnet18", size=32, epochs=4, checkpoint_minutes=0))
    undisturbed = method.pretrain(make_job(rows, "undisturbed"))
    assert (undisturbed.batch, undisturbed.steps, len(undisturbed.notes)) == (43, 4, 2)
    with pytest.raises(RuntimeError, match="killed"):
        method.pretrain(make_job(rows, "killed", make_watcher(2)))
    resumed = method.pretrain(make_job(rows, "killed"))
    assert resumed.history == undisturbed.history
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


@pytest.mark.usefixtures("small_trunk")
def test_it_learns_to_tell_a_few_slices_apart(
    make_rows: Callable[..., Any], make_job: Callable[..., Any], textures: NDArray[np.uint8], easy: dict[str, Any]
) -> None:
    settings = {**easy, "steps": 80, "batch": 4, "queue": 4, "key_momentum": 0.9}
    done = MoCo(MoCoParams(**settings)).pretrain(make_job(make_rows(pixels=textures)))
    losses = [value for _, name, value in done.history if name == "loss"]
    assert np.mean(losses[:5]) > 2 * np.mean(losses[-10:])


def test_the_defaults_are_the_papers() -> None:
    params = MoCoParams()
    assert (params.batch, params.epochs, params.temperature, params.queue) == (128, 800, 0.07, 65536)
    assert (params.optimiser, params.learning_rate, params.weight_decay, params.warmup) == ("sgd", 0.015, 1e-4, 0)
    assert (params.rotation, params.rotation_p, params.jitter_p, params.blur, params.noise) == (
        180,
        0.5,
        1.0,
        (0.1, 2.0),
        (1e-5, 1e-4),
    )
