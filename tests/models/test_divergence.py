from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor

from ctkit.contracts import Pretrained, Pretraining
from ctkit.errors import TrainingError
from ctkit_models import Contrastive, ContrastiveParams, Network, Plan, Trunk
from ctkit_models.divergence import CHECK_EVERY, FirstBadLoss
from ctkit_models.slices import Batches

Make = Callable[..., Any]
TINY = {"backbone": "resnet18", "size": 32, "steps": 6, "batch": 8, "checkpoint_minutes": 0, "optimiser": "sgd"}


class FailingNetwork(Network):
    """A loss that is ``bad`` from step ``at`` (from 1) on."""

    def __init__(self, trunk: Trunk, bad: float, at: int) -> None:
        super().__init__(trunk)
        self.bad, self.at = bad, at
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, views: list[Tensor]) -> Tensor:
        self.seen += 1
        loss = (self.trunk(views[0]) - self.trunk(views[1])).pow(2).mean()
        return loss * self.bad if int(self.seen) >= self.at else loss


class Failing(Contrastive[ContrastiveParams]):
    bad, at = float("nan"), 3

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        return FailingNetwork(trunk, self.bad, self.at)


def train(job: Pretraining, bad: float, at: int = 3, **params: Any) -> Pretrained:
    method = Failing(ContrastiveParams.model_validate({**TINY, **params}))
    method.bad, method.at = bad, at
    return method.pretrain(job)


@pytest.mark.usefixtures("small_trunk")
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops_with_step_rate_and_slices(bad: float, make_rows: Make, make_job: Make) -> None:
    rows = make_rows()
    with pytest.raises(TrainingError) as stopped:
        train(make_job(rows), bad, schedule="constant", warmup=0, log_every=100)
    members = [f"{i} (volume {rows.volume[i]}, row {rows.row[i]})" for i in Batches(rows, 42, 8).members(2)]
    assert "at step 3 of 6, learning rate 0.3" in str(stopped.value)
    assert str(stopped.value).endswith(f"slices of the batch: {', '.join(members)}")


@pytest.mark.usefixtures("small_trunk")
def test_the_log_names_every_slice_of_a_large_batch(
    make_rows: Make, make_job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rows = make_rows()
    with (
        caplog.at_level("INFO", logger="ctkit.models"),
        pytest.raises(TrainingError, match="and 12 more, see the log"),
    ):
        train(make_job(rows), float("nan"), batch=20)
    assert all(f" {i} (volume {rows.volume[i]}" in caplog.text for i in Batches(rows, 42, 20).members(2))


@pytest.mark.usefixtures("small_trunk")
def test_no_checkpoint_holds_what_a_bad_loss_left(make_rows: Make, make_job: Make) -> None:
    job = make_job(make_rows())
    for _ in ("at first", "again from the last good checkpoint"):
        with pytest.raises(TrainingError, match="at step 3 of 6"):
            train(job, float("nan"))
        assert max(path.name for path in job.folder.glob("*.ckpt")) == "step-0000000002.ckpt"


def test_the_first_bad_loss_is_remembered() -> None:
    losses = FirstBadLoss()
    assert losses.step is None
    for step, loss in enumerate([1.0, 2.0, float("inf"), 3.0, float("nan")], start=1):
        losses.see(torch.tensor(loss), step)
    assert losses.step == 3


def test_a_device_that_must_be_waited_for_is_asked_seldom() -> None:
    losses = FirstBadLoss()
    losses.see(torch.zeros((), device="meta"), 1)
    assert [step for step in range(1, 4 * CHECK_EVERY) if losses.due(step)] == [50, 100, 150]


@pytest.mark.usefixtures("small_trunk")
def test_a_step_that_loss_scaling_skips_is_no_bad_loss(
    make_rows: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    halves = MixedPrecision("16-mixed", "cpu", scaler)
    trainer = lightning.Trainer

    def with_halves(**settings: Any) -> lightning.Trainer:
        return trainer(**{**settings, "precision": None, "plugins": [*settings.get("plugins", []), halves]})

    monkeypatch.setattr(lightning, "Trainer", with_halves)
    done = train(make_job(make_rows()), bad=1.0, log_every=1)
    assert scaler.get_scale() < 2.0**24, "at least one step was skipped"
    assert [step for step, name, _ in done.history if name == "loss"] == [1, 2, 3, 4, 5, 6]
