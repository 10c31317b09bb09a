from __future__ import annotations

import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from ctkit import stopping
from ctkit.contracts import Evaluation
from ctkit_tasks import epochs, tuning
from ctkit_tasks.covid_ct import CovidCt, CovidCtParams
from ctkit_tasks.finetune import Finetune
from ctkit_tasks.finetune_params import FinetuneParams
from ctkit_tasks.image_folder import ImageFolder, ImageFolderParams
from ctkit_tasks.parts import parts_of
from ctkit_tasks.tuning import Classifier
from ctkit_torch.backbones import load_backbone
from ctkit_torch.preparation import normalised
from ctkit_torch.trunks import Trunk
from layouts import covid_ct, image_folder

SHORT = FinetuneParams(size=32, epochs=3, frozen_epochs=1, batch=8)
LEARNING = FinetuneParams(size=32, epochs=5, frozen_epochs=1, batch=4, learning_rate=1e-3)


@pytest.fixture
def job(tmp_path: Path, backbone: Path) -> Evaluation:
    root = image_folder(tmp_path / "images", {"train": 12, "val": 6, "test": 8})
    task = ImageFolder(ImageFolderParams(root=root))
    return Evaluation(task, backbone, tmp_path / "kept", 1.0, 0, "cpu", 0, lambda done, total: None)


def test_the_defaults_are_the_papers() -> None:
    params = FinetuneParams()
    assert (params.epochs, params.frozen_epochs, params.batch, params.size) == (70, 10, 64, 224)
    assert (params.learning_rate, params.weight_decay, params.flip) == (1e-4, 5e-4, 0.5)


def test_it_learns_what_tells_the_classes_apart(job: Evaluation) -> None:
    found = Finetune(LEARNING).predict(job)
    assert (found.probabilities.argmax(axis=1) == found.labels).mean() > 0.9
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(16))


def test_kept_models_are_found_again_by_later_releases(job: Evaluation) -> None:
    digest = tuning._digest(replace(job, labels=0.1, seed=42), FinetuneParams(), 1)
    assert digest.startswith("87e14607dbf1b324")  # another value: whoever updates trains everything again


def test_a_killed_training_goes_on_from_its_checkpoint_and_ends_as_an_undisturbed_one(
    job: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Finetune(SHORT).predict(replace(job, folder=tmp_path / "undisturbed"))
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0)

    def stop(done: int, total: int) -> None:
        if done == 8:  # in the third epoch of three steps each
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Finetune(SHORT).predict(replace(job, progress=stop))
    told: list[int] = []
    resumed = Finetune(SHORT).predict(replace(job, progress=lambda done, total: told.append(done)))
    assert told == [7, 8, 9]
    assert np.array_equal(resumed.probabilities, undisturbed.probabilities)
    assert resumed.notes == undisturbed.notes
    assert not list(job.folder.rglob("*.ckpt"))


def test_augmentation_is_repeated_exactly_whatever_the_threads_and_after_a_stop(
    job: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FinetuneParams(size=32, epochs=2, frozen_epochs=0, batch=12)
    params = plain.model_copy(update={"augment": True})
    whole = Finetune(params).predict(replace(job, workers=3, folder=tmp_path / "whole")).probabilities
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0)

    def stop(done: int, total: int) -> None:
        if done == 3:  # in the second epoch of two steps each
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Finetune(params).predict(replace(job, progress=stop))
    assert np.array_equal(Finetune(params).predict(job).probabilities, whole)
    assert not np.array_equal(Finetune(plain).predict(job).probabilities, whole)


def test_what_augmentation_draws_is_of_the_image_and_the_epoch_not_of_the_order_or_label_share(
    job: Evaluation, backbone: Path
) -> None:
    classifier = Classifier(load_backbone(backbone).trunk, 2, np.random.default_rng(0))
    params = SHORT.model_copy(update={"augment": True})

    def training(labels: float) -> tuning._Training:
        some = replace(job, labels=labels)
        return tuning._Training(classifier, some, parts_of(some), params, lambda seen: seen)

    def images(of: tuning._Training, order: list[int]) -> dict[int, torch.Tensor]:
        seen = of._images(torch.tensor(order).split(5))
        return dict(zip((of.numbers[place] for place in order), torch.cat(list(seen)), strict=True))

    whole, half = training(1), training(0.5)
    first = images(whole, list(range(24)))
    for others in (images(whole, list(range(24))[::-1]), images(half, list(range(len(half.numbers))))):
        assert all(torch.equal(first[number], image) for number, image in others.items())
    assert len(half.numbers) == 12
    whole.epochs = 1
    assert not any(torch.equal(first[number], image) for number, image in images(whole, list(range(24))).items())


def test_one_press_of_ctrl_c_ends_it_after_the_epoch_at_hand_and_nothing_is_lost(
    job: Evaluation, tmp_path: Path
) -> None:
    undisturbed = Finetune(SHORT).predict(replace(job, folder=tmp_path / "undisturbed"))
    told: list[int] = []

    def press(done: int, total: int) -> None:
        told.append(done)
        if done == 5:  # in the second epoch of three steps each
            signal.raise_signal(signal.SIGINT)

    with stopping.patient(), pytest.raises(KeyboardInterrupt):
        Finetune(SHORT).predict(replace(job, progress=press))
    resumed = Finetune(SHORT).predict(replace(job, progress=lambda done, total: told.append(done)))
    assert told == list(range(1, 10))
    assert np.array_equal(resumed.probabilities, undisturbed.probabilities)


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_that_would_emulate_bfloat16_trains_without(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def autocast(device: str, dtype: torch.dtype, enabled: bool) -> AbstractContextManager[None]:
        asked.append((device, enabled))
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_it)
    monkeypatch.setattr(torch, "autocast", autocast)
    classifier = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(classifier.parameters())
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="devices"):  # as it computes
        tuning.learn(classifier, optimiser, torch.zeros(2, 3, device="cuda"), torch.zeros(2))
    assert asked == [("cuda", has_it)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_learns_on_a_gpu_in_mixed_precision(job: Evaluation) -> None:
    found = Finetune(LEARNING).predict(replace(job, device="cuda"))
    assert (found.probabilities.argmax(axis=1) == found.labels).mean() > 0.9


def test_a_model_that_is_kept_is_not_trained_again(job: Evaluation) -> None:
    told: list[int] = []
    watched = replace(job, progress=lambda done, total: told.append(done))
    first = Finetune(SHORT).predict(watched)
    steps = len(told)
    assert np.array_equal(Finetune(SHORT).predict(watched).probabilities, first.probabilities)
    assert len(told) == steps
    Finetune(SHORT).predict(replace(watched, labels=0.5))
    assert len(told) > steps


def test_predictions_are_made_without_tf32(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []
    forward = Trunk.forward

    def recorded(trunk: Trunk, images: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return forward(trunk, images)

    monkeypatch.setattr(Trunk, "forward", recorded)
    classifier = Classifier(load_backbone(backbone).trunk, 2, np.random.default_rng(0))
    tuning._predicted(classifier, [torch.zeros(2, 3, 32, 32)], lambda images: images)
    assert allowed == [False]


@pytest.mark.parametrize(("spare", "moved"), [(0, []), (1, ["cuda"])])
def test_images_go_to_the_gpu_where_they_take_less_than_a_quarter_of_what_others_left(
    spare: int, moved: list[str], job: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchs_own, to = [1 << 20], []
    free = 4 * 24 * 32 * 32 + spare  # bytes, for 24 images
    monkeypatch.setattr(torch.cuda, "empty_cache", torchs_own.clear)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free - sum(torchs_own), 1 << 30))
    monkeypatch.setattr(torch.Tensor, "to", lambda images, device: to.append(device) or images)
    tuning._held(replace(job, device="cuda"), parts_of(job).train, 32)
    assert to == moved


@pytest.mark.parametrize("batch", [1, 5])
def test_predictions_do_not_depend_on_the_batch(job: Evaluation, backbone: Path, batch: int) -> None:
    classifier = Classifier(load_backbone(backbone).trunk, 2, np.random.default_rng(0))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 1, 32, 32)).astype(np.uint8))
    normalise = partial(normalised, mean=0.5, std=0.25)
    whole = tuning._predicted(classifier, [images], normalise)
    np.testing.assert_allclose(tuning._predicted(classifier, torch.split(images, batch), normalise), whole, atol=1e-6)


def test_the_same_job_gives_the_same_predictions_and_another_seed_others(job: Evaluation, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = Finetune(SHORT).predict(replace(job, progress=lambda done, total: calls.append((done, total))))
    assert calls == [(step, 9) for step in range(1, 10)]
    again = replace(job, workers=3, folder=tmp_path / "again")
    assert np.array_equal(Finetune(SHORT).predict(again).probabilities, found.probabilities)
    other = Finetune(SHORT).predict(replace(job, seed=1)).probabilities
    assert not np.array_equal(other, found.probabilities)


def test_global_generators_are_left_alone(job: Evaluation) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Finetune(SHORT.model_copy(update={"epochs": 2})).predict(job)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_frozen_trunk_keeps_weights_and_batch_statistics(backbone: Path) -> None:
    classifier = Classifier(load_backbone(backbone).trunk, 2, np.random.default_rng(0))
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimiser = torch.optim.Adam(classifier.parameters(), lr=1e-2, weight_decay=1e-2)
    images, labels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2

    def changed(*, frozen: bool) -> set[str]:
        classifier.train_with(frozen_trunk=frozen)
        tuning.learn(classifier, optimiser, images, labels)
        return {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}

    assert changed(frozen=True) == {"layer.weight", "layer.bias"}
    thawed = changed(frozen=False)
    assert "trunk.network.bn1.running_mean" in thawed
    assert {name for name, _ in classifier.named_parameters()} <= thawed


def test_a_step_is_adams_on_cross_entropy(backbone: Path) -> None:
    """The same two steps, one frozen and one not, spelt out with torch alone."""
    images, labels = (
        torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 2, 0]),
    )
    ours, theirs = (Classifier(load_backbone(backbone).trunk, 3, np.random.default_rng(0)) for _ in range(2))
    rates = {"lr": 1e-3, "weight_decay": 1e-2}
    optimiser = torch.optim.Adam([{"params": ours.trunk.parameters()}, {"params": ours.layer.parameters()}], **rates)
    layer_only = torch.optim.Adam(theirs.layer.parameters(), **rates)
    trunk_only = torch.optim.Adam(theirs.trunk.parameters(), **rates)
    for step, frozen in enumerate((True, False)):
        ours.train_with(frozen_trunk=frozen)
        tuning.learn(ours, optimiser, images[step], labels)
        theirs.trunk.train(not frozen)
        for part in (layer_only, trunk_only):
            part.zero_grad()
        cross_entropy(theirs.layer(theirs.trunk(images[step])), labels).backward()
        layer_only.step()
        if not frozen:
            trunk_only.step()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight)


def test_the_best_epoch_by_validation_accuracy_is_predicted_with(
    job: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = tuning._predicted

    def recorded(classifier: Classifier, *rest: object) -> np.ndarray:
        seen.append(classifier.layer.bias.detach().clone())
        found = real(classifier, *rest)  # type: ignore[arg-type]
        accuracies = {0: 0.5, 1: 1.0, 2: 0.5}
        if len(seen) <= 3:  # validation: call as many images right as the table says
            right = np.eye(2)[np.repeat([0, 1], 6)]
            found = np.where(np.arange(12)[:, None] < 12 * accuracies[len(seen) - 1], right, 1 - right)
        return found

    monkeypatch.setattr(tuning, "_predicted", recorded)
    found = Finetune(SHORT).predict(job)
    assert "epoch 2 of 3 was best on 12 validation images (accuracy 1.000)" in found.notes
    assert torch.equal(seen[3], seen[1])


def test_every_epoch_sees_every_image_in_batches_of_two_or_more() -> None:
    rng = np.random.default_rng(0)
    for count, size in ((2, 64), (3, 2), (65, 64), (128, 64), (7, 3)):
        found = epochs.shuffled(count, size, rng)
        assert sorted(np.concatenate(found).tolist()) == list(range(count))
        assert min(len(batch) for batch in found) >= 2
        assert max(len(batch) for batch in found) <= max(size, 3)


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_mirroring_is_left_to_right_and_as_often_as_asked(job: Evaluation, backbone: Path, flip: float) -> None:
    images = torch.arange(24 * 6, dtype=torch.uint8).reshape(24, 1, 2, 3)
    which = torch.arange(24) % 3 == 0
    found = tuning._mirrored(images, which)
    assert torch.equal(found[which], images[which][..., [2, 1, 0]])
    assert torch.equal(found[~which], images[~which])
    classifier = Classifier(load_backbone(backbone).trunk, 2, np.random.default_rng(0))
    params = SHORT.model_copy(update={"flip": flip})
    training = tuning._Training(classifier, job, parts_of(job), params, lambda seen: seen)
    rng = np.random.default_rng(0)
    drawn = torch.cat([mirrored for _ in range(40) for *_, mirrored in training._steps(rng)])
    assert drawn.float().mean() == pytest.approx(flip, abs=0.06 if flip == 0.5 else 0)


@pytest.mark.skipif(
    not hasattr(fake_tensor, "FakeTensorDeviceMismatchError"), reason="this torch asks for a GPU that is pretended"
)
def test_an_epoch_on_a_gpu_brings_what_it_draws_there_at_once(
    job: Evaluation, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[torch.Size] = []
    devices: set[str] = set()

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **kwargs or {})
            if func is torch.ops.aten._to_copy.default and found.device.type == "cuda" != args[0].device.type:
                uploads.append(args[0].shape)
            return found

    monkeypatch.setattr(tuning, "_held", lambda *_, **__: torch.empty(24, 1, 32, 32, dtype=torch.uint8, device="cuda"))
    monkeypatch.setattr(tuning, "learn", lambda *args: devices.update(each.device.type for each in args[2:]))
    monkeypatch.setattr(tuning._Training, "_judge", lambda _: None)
    classifier = Classifier(load_backbone(backbone).trunk, 2, np.random.default_rng(0))
    with FakeTensorMode(allow_non_fake_inputs=True), Counted():
        tuning._Training(classifier, replace(job, device="cuda"), parts_of(job), SHORT, lambda seen: seen).epoch()
    assert uploads == [torch.Size([24])] * 3
    assert devices == {"cuda"}


def test_colour_and_grey_images_train_together(tmp_path: Path, backbone: Path) -> None:
    task = CovidCt(CovidCtParams(root=covid_ct(tmp_path / "images", {"train": 6, "val": 2, "test": 2})))
    params = FinetuneParams(size=32, epochs=2, frozen_epochs=0, batch=4)
    job = Evaluation(task, backbone, tmp_path / "kept", 1.0, 0, "cpu", 2, lambda done, total: None)
    found = Finetune(params).predict(job)
    assert found.probabilities.shape == (4, 2)
    assert (found.classes, found.positive) == (("NonCOVID", "COVID"), "COVID")


def test_a_trunk_that_never_thaws_is_refused() -> None:
    with pytest.raises(ValidationError, match="for a frozen backbone use protocol linear"):
        FinetuneParams(epochs=10)
