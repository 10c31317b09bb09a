from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ctkit.contracts import Pretrained, Pretraining
from ctkit.errors import RequestError, TrainingError
from ctkit_models import Contrastive, ContrastiveParams, Network, Plan, Trunk
from ctkit_models.batch_size import largest

Make = Callable[..., Any]
TINY = {"backbone": "resnet18", "size": 32, "steps": 4, "checkpoint_minutes": 0, "batch": "auto"}


class LimitedNetwork(Network):
    """A network on a device whose memory holds ``limit`` slices."""

    def __init__(self, trunk: Trunk, limit: int) -> None:
        super().__init__(trunk)
        self.limit = limit

    def forward(self, views: list[Tensor]) -> Tensor:
        if len(views[0]) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return (self.trunk(views[0]) - self.trunk(views[1])).pow(2).mean()


class Limited(Contrastive[ContrastiveParams]):
    limit = 9

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        return LimitedNetwork(trunk, self.limit)


def train(job: Pretraining, limit: int = 9, **params: Any) -> Pretrained:
    method = Limited(ContrastiveParams.model_validate({**TINY, **params}))
    method.limit = limit
    return method.pretrain(job)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, small_trunk: None) -> None:
    """Let the CPU pass for a device whose memory can be tried."""
    monkeypatch.setattr("ctkit_models.engine.check_device", lambda params, job: None)


@pytest.mark.parametrize(("limit", "most", "found"), [(100, 1000, 64), (64, 1000, 64), (100, 24, 16), (2, 2, 2)])
def test_the_largest_power_of_two_that_fits_is_found(limit: int, most: int, found: int) -> None:
    tried = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    assert largest(fits, most) == found
    assert max(tried) <= min(most, 2 * found), "nothing is tried that need not be"


def test_a_network_that_fits_with_no_batch_at_all_is_an_error() -> None:
    with pytest.raises(TrainingError, match="not even 2 slices fit"):
        largest(lambda size: False, 100)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_what_was_found_is_used_and_said_and_trains_as_if_it_was_given(make_rows: Make, make_job: Make) -> None:
    rows = make_rows()
    found = train(make_job(rows, "found"))
    given = train(make_job(rows, "given"), batch=8)
    assert found.batch == 8
    assert found.notes == ("batch auto is 8: 8 slices at a time on each device",)
    assert found.history == given.history
    assert found.backbone.read_bytes() == given.backbone.read_bytes(), "metadata included"
    assert (found.backbone.parent / "batch.json").exists(), "it stays until the backbone is published"


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_batch_whose_note_is_damaged_is_found_anew(make_rows: Make, make_job: Make) -> None:
    job = make_job(make_rows())
    (job.folder / "batch.json").write_text("")
    assert train(job).batch == 8


@pytest.mark.usefixtures("as_on_a_gpu")
def test_memory_holds_one_part_of_a_batch_at_a_time(make_rows: Make, make_job: Make) -> None:
    assert train(make_job(make_rows()), limit=5, accumulate=3).batch == 12


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_killed_training_goes_on_with_the_batch_that_it_found(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows = make_rows()
    undisturbed = train(make_job(rows, "undisturbed"))
    with pytest.raises(RuntimeError, match="killed"):
        train(make_job(rows, "killed", make_watcher(2)))
    resumed = train(make_job(rows, "killed"), limit=100)
    assert resumed.batch == 8, "not what a larger device holds"
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_another_error_than_lack_of_memory_is_not_taken_for_it(
    make_rows: Make, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Network, views: list[Tensor]) -> Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(LimitedNetwork, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(make_job(make_rows()))


def test_on_the_cpu_a_number_must_be_given(make_rows: Make, make_job: Make) -> None:
    with pytest.raises(RequestError, match="on the CPU give a number"):
        train(make_job(make_rows()))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_no_more_is_tried_than_the_sampler_can_fill(make_rows: Make, make_job: Make) -> None:
    done = train(make_job(make_rows()), sampler="one-per-volume")
    assert done.batch == 2, "the arm has 2 volumes"
