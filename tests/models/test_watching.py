from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from ctkit.contracts import Pretraining, Split, Task
from ctkit.errors import DataError
from ctkit_models import probing
from ctkit_models.parameters import ContrastiveParams
from ctkit_models.plan import plan_run
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_models.watching import IMAGES, Watch, chosen_images, watches
from ctkit_torch.neighbours import accuracy_among_others
from ctkit_torch.preparation import normalised, resized
from ctkit_torch.trunks import Trunk

CPU = torch.device("cpu")
Make = Callable[..., Any]


class Stripes(Task[Any]):
    """Images of three patients, of sizes of their own, with stripes or without; nobody may look at test images."""

    classes = ("plain", "striped")
    patients: tuple[str, ...] | None = tuple("aabbcc")

    def splits(self) -> Mapping[str, Split]:
        train = Split(tuple("uvwxyz"), np.array([0, 1, 0, 1, 0, 1]), self.patients)
        return {"train": train, "test": Split(("t",), np.array([0]))}

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        assert split == "train"
        rng = np.random.default_rng(number)
        image = rng.integers(0, 120, (30 + number, 40)) + 100 * (number % 2) * (np.arange(40) // 8 % 2)
        return image.astype(np.uint8)


class Broken(Stripes):
    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        raise DataError("the image is damaged")


class OnePatient(Stripes):
    patients = ("a",) * 6


def watch_of(job: Pretraining, size: int = 16) -> Watch:
    plan = plan_run(ContrastiveParams(batch=4, steps=40), len(job.rows))
    return Watch("stripes", Stripes(), job.rows, plan, size, workers=1)


class Seen(nn.Module):
    """Gives pixels as features, and remembers what it saw."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 1, 1)  # says how many channels there are, and does nothing
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.images.append(images)
        return images[:, 0].flatten(1)


class OwnGreys(Stripes):
    mean_std = (0.7, 0.1)


@pytest.mark.parametrize("task", [Stripes(), OwnGreys()], ids=lambda task: type(task).__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_look_to_the_trunk_as_they_do_when_it_is_scored(
    channels: int, task: Stripes, make_rows: Make, make_job: Make
) -> None:
    job, seen = make_job(make_rows()), Seen(channels)
    trunk = Trunk(seen, "resnet18", 256)
    monitor = Watch("stripes", task, job.rows, plan_run(ContrastiveParams(batch=4, steps=40), 24), 16, workers=1)
    accuracy = monitor.measure(trunk, CPU)
    images = torch.from_numpy(np.stack([resized(task.image("train", number), 16) for number in range(6)]))
    expected = normalised(images, *(task.mean_std or (job.rows.mean, job.rows.std)))[:, :channels]
    torch.testing.assert_close(torch.cat(seen.images), expected)
    features = expected[:, 0].flatten(1).numpy()
    assert accuracy == accuracy_among_others(features, np.array([0, 1] * 3), np.array([0, 0, 1, 1, 2, 2]))


def test_features_that_are_no_numbers_have_no_accuracy(make_rows: Make, make_job: Make) -> None:
    broken = nn.Conv2d(1, 1, 1)
    nn.init.constant_(broken.weight, torch.nan)
    assert np.isnan(watch_of(make_job(make_rows())).measure(Trunk(nn.Sequential(broken, nn.Flatten()), "", 256), CPU))


@given(counts=st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_as_many_images_of_each_class_are_watched_as_there_are(counts: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    chosen = chosen_images(labels, IMAGES)
    assert len(set(chosen.tolist())) == len(chosen) == min(IMAGES, len(labels))
    taken = np.bincount(labels[chosen], minlength=len(counts))
    assert all(few == count or few >= taken.max() - 1 for few, count in zip(taken, counts, strict=True))


@pytest.mark.usefixtures("small_trunk")
def test_watching_is_logged_and_changes_no_bit_also_where_a_training_goes_on(
    make_rows: Make, make_job: Make, make_watcher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "COST", 1.0)  # look after every step
    method = SimCLR(SimCLRParams(backbone="resnet18", size=32, steps=4, batch=24, checkpoint_minutes=0))
    rows, watched = make_rows(), {"stripes": Stripes()}
    unseen = method.pretrain(make_job(rows, "unseen"))
    seen = method.pretrain(replace(make_job(rows, "seen"), watched=watched))
    assert seen.backbone.read_bytes() == unseen.backbone.read_bytes()
    assert [row for row in seen.history if row[1] != "knn-stripes"] == list(unseen.history)
    values = {step: value for step, name, value in seen.history if name == "knn-stripes"}
    assert list(values) == [1, 2, 3, 4]
    assert all(0 <= value <= 1 for value in values.values())
    with pytest.raises(RuntimeError, match="killed"):
        method.pretrain(replace(make_job(rows, "killed", make_watcher(2)), watched=watched))
    assert method.pretrain(replace(make_job(rows, "killed"), watched=watched)).history == seen.history


@pytest.mark.parametrize(
    ("task", "reason"),
    [(Broken(), "the image is damaged"), (OnePatient(), "only one patient among the training images")],
)
def test_a_task_that_cannot_be_watched_is_told_and_costs_no_training(
    task: Task[Any], reason: str, make_rows: Make, make_job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    job = replace(make_job(make_rows()), watched={"broken": task, "stripes": Stripes()})
    plan = plan_run(ContrastiveParams(batch=4, steps=40), len(job.rows))
    assert [watch.name for watch in watches(job, plan, 16)] == ["knn-stripes"]
    assert f"task broken is not monitored: {reason}" in caplog.text.replace("there is ", "")
