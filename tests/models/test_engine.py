from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ctkit import stopping
from ctkit.contracts import Pretrained, Pretraining
from ctkit.errors import DataError, RequestError, TrainingError
from ctkit_models import Contrastive, ContrastiveParams, Network, Plan, Trunk, engine
from ctkit_models.plan import plan_run
from ctkit_models.ranks import Rank
from ctkit_models.simclr import SimCLR, SimCLRParams
from ctkit_torch.backbones import load_backbone, random_backbone, save_backbone
from ctkit_torch.precision import tuned_convolutions
from ctkit_torch.seeding import seeded

TINY = {"backbone": "resnet18", "size": 32, "steps": 6, "batch": 8, "checkpoint_minutes": 0}
STEPS = 6  # 24 slices in batches of 8, twice


class DrawingNetwork(Network):
    """A loss with all a method may have: dropout, a buffer that follows the weights, a gradient taken away."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        self.head = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(trunk.width, 4))
        self.register_buffer("average", torch.zeros(4, trunk.width))

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.head(self.trunk(view)) for view in views)
        return (first - second).pow(2).mean() + (first.std(dim=0) - 1).pow(2).mean() + self.average.mean()

    def after_backward(self, step: int) -> None:
        if step < 2:
            self.head[1].bias.grad = None

    def after_step(self, step: int) -> None:
        self.average.mul_(0.5).add_(self.head[1].weight.detach())


class Drawing(Contrastive[ContrastiveParams]):
    def network(self, trunk: Trunk, plan: Plan) -> Network:
        return DrawingNetwork(trunk)


def train(job: Pretraining, **params: Any) -> Pretrained:
    return Drawing(ContrastiveParams.model_validate({**TINY, **params})).pretrain(job)


Make = Callable[..., Any]


def test_a_training_reports_its_steps_losses_and_backbone(make_rows: Make, make_job: Make, make_watcher: Make) -> None:
    watcher, rows = make_watcher(), make_rows()
    job = make_job(rows, watcher=watcher)
    done = train(job, steps=4)
    assert watcher.steps == [(step, 4) for step in (1, 2, 3, 4)]
    assert list(done.history) == watcher.metrics
    assert [step for step, name, _ in done.history if name == "loss"] == [1, 2, 3, 4]
    assert (done.steps, done.epochs, done.batch, done.notes) == (4, pytest.approx(4 / 3), 8, ())
    assert done.seconds > 0
    assert 0 < (done.waiting or 0) < 1
    assert (done.collapsed, done.joules, done.peak_bytes) == (False, None, None)
    backbone = load_backbone(done.backbone)
    assert (backbone.architecture, backbone.mean, backbone.std) == ("resnet18", rows.mean, rows.std)
    expected = {"method": "Drawing", "arm": "hash6", "fingerprint": "0123", "steps": "4", "slices": "24", "seed": "42"}
    assert expected.items() <= backbone.metadata.items()
    written = done.backbone.read_bytes()
    again = train(make_job(rows, watcher=(idle := make_watcher())), steps=4)  # what was made could not be published
    assert (idle.steps, again.backbone, again.backbone.read_bytes()) == ([], done.backbone, written)


@pytest.mark.usefixtures("small_trunk")
def test_the_same_job_gives_the_same_bytes_and_another_seed_others(make_rows: Make, make_job: Make) -> None:
    rows = make_rows()
    first, again = (train(make_job(rows, name)) for name in ("first", "again"))
    other = train(make_job(rows, "other", seed=43))
    assert first.backbone.read_bytes() == again.backbone.read_bytes()
    assert first.history == again.history
    assert first.backbone.read_bytes() != other.backbone.read_bytes()


@pytest.mark.usefixtures("small_trunk")
@pytest.mark.parametrize("optimiser", ["lars", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 4, STEPS])
def test_a_training_killed_at_any_step_ends_as_one_that_was_not(
    stop_at: int, optimiser: str, make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows = make_rows()
    undisturbed = train(make_job(rows, "undisturbed"), optimiser=optimiser)
    with pytest.raises(RuntimeError, match="killed"):
        train(make_job(rows, "killed", make_watcher(stop_at)), optimiser=optimiser)
    watcher = make_watcher()
    resumed = train(make_job(rows, "killed", watcher), optimiser=optimiser)
    assert [step for step, _ in watcher.steps] == list(range(stop_at + 1, STEPS + 1)), "nothing is done twice"
    assert resumed.history == undisturbed.history
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


@pytest.mark.usefixtures("small_trunk")
def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows = make_rows()
    undisturbed = train(make_job(rows, "undisturbed"))
    job = make_job(rows, "killed", make_watcher(4))
    with pytest.raises(RuntimeError, match="killed"):
        train(job)
    newest = max(job.folder.glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    watcher = make_watcher()
    resumed = train(replace(job, progress=watcher.progress))
    assert watcher.steps[0] == (4, STEPS)
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


KILLED = """
import os, signal, sys, pickle
from pathlib import Path
from ctkit.contracts import Pretraining
from ctkit_models.simclr import SimCLR
import torch
torch.set_num_threads(1)
rows, folder, params, stop_at = pickle.loads(Path(sys.argv[1]).read_bytes())
def progress(step, total):
    if step == stop_at:
        os.kill(os.getpid(), signal.SIGKILL)
job = Pretraining(rows, 42, "cpu", 1, folder, {}, progress, lambda *_: None)
SimCLR(SimCLR.params_type.model_validate(params)).pretrain(job)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_that_is_killed_leaves_what_the_next_one_needs(
    make_rows: Make, make_job: Make, tmp_path: Path
) -> None:
    settings = {**TINY, "steps": 3, "batch": 4}
    rows, params = make_rows(), SimCLRParams.model_validate(settings)
    undisturbed = SimCLR(params).pretrain(replace(make_job(rows, "undisturbed"), metadata={}))
    job = replace(make_job(rows, "killed"), metadata={})
    (tmp_path / "call").write_bytes(pickle.dumps((rows, job.folder, settings, 2)))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "call")], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (killed.stdout, killed.stderr) == ("", ""), "Lightning's banners and advice are not for our users"
    resumed = SimCLR(params).pretrain(job)
    assert resumed.history == undisturbed.history
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


@pytest.mark.usefixtures("small_trunk")
def test_ctrl_c_goes_through_as_what_it_is(make_rows: Make, make_job: Make, make_watcher: Make) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(make_job(make_rows(), watcher=make_watcher(1, KeyboardInterrupt())))
    assert signal.getsignal(signal.SIGINT) is before


def test_training_prints_nothing_and_leaves_global_numbers_as_they_were(
    make_rows: Make, make_job: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(make_job(make_rows()), steps=1)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("small_trunk")
def test_a_small_arm_lowers_the_batch_and_says_so(
    make_rows: Make, make_job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    params = ContrastiveParams.model_validate({**TINY, "batch": 128, "steps": None, "epochs": 2})
    with caplog.at_level("INFO", logger="ctkit.models"):
        done = Drawing(params).pretrain(make_job(make_rows(11)))
    assert (done.batch, done.steps) == (11, 2)
    assert done.notes == ("batch lowered from 128 to 11: the arm has 11 slices",)
    assert done.notes[0] in caplog.text


@pytest.mark.usefixtures("small_trunk")
def test_a_training_with_one_slice_per_volume_resumes_bit_for_bit(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows, sampler = replace(make_rows(), volume=np.arange(24) % 5), "one-per-volume"
    undisturbed = train(make_job(rows, "undisturbed"), sampler=sampler)
    assert undisturbed.batch == 5
    with pytest.raises(RuntimeError, match="killed"):
        train(make_job(rows, "killed", make_watcher(3)), sampler=sampler)
    resumed = train(make_job(rows, "killed"), sampler=sampler)
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()


@pytest.mark.usefixtures("small_trunk")
def test_losses_are_logged_as_often_as_asked_and_at_both_ends(make_rows: Make, make_job: Make) -> None:
    done = train(make_job(make_rows()), log_every=4)
    assert [step for step, name, _ in done.history if name == "loss"] == [1, 4, 6]


@pytest.mark.usefixtures("small_trunk")
def test_the_mechanism_and_the_spread_of_features_are_measured(make_rows: Make, make_job: Make) -> None:
    done = train(make_job(make_rows()), log_every=4)
    at = {name: [step for step, found, _ in done.history if found == name] for _, name, _ in done.history}
    assert at["alike-pairs"] == at["loss"] == [1, 4, 6]
    assert at["feature-std"] == at["effective-rank"] == [6]
    values = {name: value for _, name, value in done.history}
    assert 0 <= values["alike-pairs"] <= 1
    assert 1 < values["effective-rank"] <= 24


class Collapsing(Contrastive[ContrastiveParams]):
    """Pulls every weight of the trunk to zero at the third step, as a collapse would slowly do."""

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        class Zeroed(DrawingNetwork):
            def after_step(self, step: int) -> None:
                if step == 2:
                    for weight in self.trunk.parameters():
                        weight.detach().zero_()

        return Zeroed(trunk)


@pytest.mark.usefixtures("small_trunk")
def test_a_collapse_is_told_when_it_happens_and_noted_at_the_end(
    make_rows: Make, make_job: Make, caplog: pytest.LogCaptureFixture
) -> None:
    params = {**TINY, "steps": 20, "batch": 24, "optimiser": "sgd", "learning_rate": 1e-6, "checkpoint_minutes": 10}
    done = Collapsing(ContrastiveParams.model_validate(params)).pretrain(make_job(make_rows()))
    warnings_ = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings_) == 1, "once, not at every measurement"
    assert warnings_[0].startswith("step 17 of 20: the training collapsed")
    (note,) = done.notes
    assert done.collapsed
    assert "all slices have nearly the same features" in note


class RisingNetwork(DrawingNetwork):
    """A loss that is next to 3, 2, 1, 2, 3, ... in steps that follow each other."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__(trunk)
        self.register_buffer("step", torch.zeros(()))

    def forward(self, views: list[Tensor]) -> Tensor:
        return 1e-3 * super().forward(views) + (self.step - 2).abs() + 1

    def after_step(self, step: int) -> None:
        self.step += 1


class Rising(Contrastive[ContrastiveParams]):
    def network(self, trunk: Trunk, plan: Plan) -> Network:
        return RisingNetwork(trunk)


def train_rising(job: Pretraining, **params: Any) -> Pretrained:
    constant = {"schedule": "constant", "warmup": 0, "learning_rate": 0.01, "optimiser": "sgd", "log_every": 4}
    return Rising(ContrastiveParams.model_validate({**TINY, **constant, **params})).pretrain(job)


@pytest.mark.usefixtures("small_trunk")
@pytest.mark.parametrize("stop_at", [2, 4, 5])
def test_a_training_without_gain_ends_early_and_leaves_its_best_backbone_also_where_it_was_killed(
    stop_at: int, make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows, watcher, asked = make_rows(), make_watcher(), {"steps": 20, "keep": "best", "patience": 2, "batch": 8}
    done = train_rising(make_job(rows, "job", watcher), **asked)
    assert (done.steps, done.epochs, watcher.steps[-1]) == (5, pytest.approx(5 / 3), (5, 5))
    assert done.notes == (
        f"stopped early after 5 of 20 steps: the mean loss was lowest at step 3: {lowest(done):.4g}",
        "the backbone is that of step 3 of 5, where the mean loss was lowest",
    )
    assert {name: step for step, name, _ in done.history}["effective-rank"] == 5, "the end is measured"
    assert [step for step, name, _ in done.history if name == "loss"] == [1, 4, 5]
    three = train_rising(make_job(rows, "three"), steps=3)
    ours, theirs = load_file(done.backbone), load_file(three.backbone)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    with pytest.raises(RuntimeError, match="killed"):
        train_rising(make_job(rows, "killed", make_watcher(stop_at)), **asked)
    resumed = train_rising(make_job(rows, "killed"), **asked)
    assert resumed.backbone.read_bytes() == done.backbone.read_bytes()
    assert (resumed.history, resumed.steps, resumed.notes) == (done.history, done.steps, done.notes)


def lowest(done: Pretrained) -> float:
    return min(value for _, name, value in done.history if name == "mean-loss")


@pytest.mark.usefixtures("small_trunk")
def test_the_last_backbone_is_written_where_a_training_ends_early_and_the_best_is_not_asked_for(
    make_rows: Make, make_job: Make
) -> None:
    rows = make_rows()
    done = train_rising(make_job(rows), steps=20, patience=2)
    five = load_file(train_rising(make_job(rows, "five"), steps=5).backbone)
    assert all(torch.equal(value, five[name]) for name, value in load_file(done.backbone).items())
    assert [note.split(":")[0] for note in done.notes] == ["stopped early after 5 of 20 steps"]


@pytest.mark.usefixtures("small_trunk")
def test_a_collapse_is_judged_by_the_backbone_that_is_kept(make_rows: Make, make_job: Make) -> None:
    params = {**TINY, "steps": 5, "batch": 24, "optimiser": "sgd", "learning_rate": 1e-6, "warmup": 0}
    last, best = (
        Collapsing(ContrastiveParams.model_validate({**params, "keep": keep})).pretrain(make_job(make_rows(), keep))
        for keep in ("last", "best")
    )
    assert last.collapsed
    assert not best.collapsed, best.notes


class Breaking(Contrastive[ContrastiveParams]):
    """Spoils a weight of the trunk after the last step, when no loss can tell any more."""

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        class Broken(DrawingNetwork):
            def after_step(self, step: int) -> None:
                if step == STEPS - 1:
                    next(self.trunk.parameters()).detach().fill_(float("nan"))

        return Broken(trunk)


@pytest.mark.usefixtures("small_trunk")
def test_a_backbone_whose_features_are_no_numbers_is_not_published(make_rows: Make, make_job: Make) -> None:
    job = make_job(make_rows())
    with pytest.raises(TrainingError, match="features are NaN or infinite"):
        Breaking(ContrastiveParams.model_validate(TINY)).pretrain(job)
    assert not (job.folder / "backbone.safetensors").exists()


class Slipping(Contrastive[ContrastiveParams]):
    """Has a network, or none, that gives ``loss``."""

    loss: Tensor | None = None
    has_network = True

    def network(self, trunk: Trunk, plan: Plan) -> Network:
        network = DrawingNetwork(trunk)
        network.forward = lambda views: self.loss
        return network if self.has_network else None


@pytest.mark.usefixtures("small_trunk")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"has_network": False}, "network must return a ctkit_models.Network but returned a NoneType; build one"),
        ({"loss": None}, "forward must return the loss, a tensor of one number, but returned a NoneType; reduce it"),
        ({"loss": torch.zeros(3)}, r"a tensor of one number, but returned one of \(3,\); reduce it"),
    ],
    ids=str,
)
def test_what_a_method_forgets_to_return_is_said(
    make_rows: Make, make_job: Make, members: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, member in members.items():
        monkeypatch.setattr(Slipping, name, member)
    with pytest.raises(TypeError, match=message):
        Slipping(ContrastiveParams.model_validate(TINY)).pretrain(make_job(make_rows()))


@pytest.mark.usefixtures("small_trunk")
def test_a_checkpoint_of_another_batch_is_refused_in_a_sentence(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    rows, params = make_rows(), ContrastiveParams.model_validate({**TINY, "batch": 10})
    with pytest.raises(RuntimeError, match="killed"):
        Drawing(params).pretrain(make_job(rows, "killed", make_watcher(2)))
    job, plan = make_job(rows, "killed"), plan_run(params, len(rows), processes=4)
    with pytest.raises(TrainingError, match=r"1 devices: 6 steps with a batch of 10, .* 4 devices: .* batch of 8;"):
        engine.train(Drawing(params), plan, job, Rank())


def test_an_arm_of_constant_slices_trains(make_rows: Make, make_job: Make) -> None:
    rows = make_rows(pixels=np.zeros((8, 32, 32), np.uint8))
    done = train(make_job(rows), steps=1)
    assert load_backbone(done.backbone).std == 1.0


@pytest.mark.parametrize("channels", [1, 3])
def test_training_starts_from_given_weights(channels: int, make_rows: Make, make_job: Make, tmp_path: Path) -> None:
    start = random_backbone("resnet18", 9)
    save_backbone(tmp_path / "start.safetensors", start.trunk, mean=0.5, std=0.5, metadata={})
    done = train(
        make_job(make_rows()), init=tmp_path / "start.safetensors", steps=1, learning_rate=1e-12, channels=channels
    )
    trained, given = load_backbone(done.backbone).trunk.weights(), start.trunk.weights()
    for name in ("layer1.0.conv1.weight", "layer4.1.conv2.weight"):
        torch.testing.assert_close(trained[name], given[name])
    summed = [weights["conv1.weight"].sum(dim=1) for weights in (trained, given)]
    torch.testing.assert_close(*summed, rtol=1e-4, atol=1e-6)


def test_weights_of_another_network_are_refused(make_rows: Make, make_job: Make, tmp_path: Path) -> None:
    start = random_backbone("resnet34", 9)
    save_backbone(tmp_path / "start.safetensors", start.trunk, mean=0.5, std=0.5, metadata={})
    with pytest.raises(DataError, match="init is a resnet34 but backbone is resnet18"):
        train(make_job(make_rows()), init=tmp_path / "start.safetensors")


@pytest.mark.usefixtures("small_trunk")
def test_fp16_on_the_cpu_is_refused(make_rows: Make, make_job: Make) -> None:
    with pytest.raises(RequestError, match="precision fp16 needs a GPU"):
        train(make_job(make_rows()), precision="fp16")


def test_a_gpu_that_torch_cannot_use_is_left_alone_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # what the driver says
    before = torch.random.get_rng_state()
    with seeded(3):
        drawn = torch.rand(2)
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("before", [False, True])
def test_convolutions_are_tuned_for_a_training_alone(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with pytest.raises(DataError), tuned_convolutions(on_gpu=not before):
        assert torch.backends.cudnn.benchmark is not before
        raise DataError("something else")
    assert torch.backends.cudnn.benchmark is before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_and_goes_on_where_it_was_killed(
    precision: str, make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    def losses(done: Pretrained) -> list[float]:
        return [value for _, name, value in done.history if name == "loss"]

    rows = make_rows()
    undisturbed = train(replace(make_job(rows, "undisturbed"), device="cuda", workers=2), precision=precision)
    with pytest.raises(RuntimeError, match="killed"):
        train(replace(make_job(rows, "killed", make_watcher(3)), device="cuda"), precision=precision)
    resumed = train(replace(make_job(rows, "killed"), device="cuda"), precision=precision)
    assert len(losses(undisturbed)) == STEPS
    np.testing.assert_allclose(losses(resumed), losses(undisturbed), rtol=0.05)
    assert undisturbed.peak_bytes is not None
    assert 0 <= (undisturbed.waiting or 0) < 1
    again = load_file(undisturbed.backbone)
    assert all(torch.isfinite(weight).all() for weight in again.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch can use the GPU")
def test_a_torch_that_cannot_use_the_gpu_is_said_to_be_the_trouble(make_rows: Make, make_job: Make) -> None:
    with pytest.raises(RequestError, match="this torch cannot use it"):
        train(replace(make_job(make_rows()), device="cuda"))


@pytest.mark.usefixtures("small_trunk")
def test_bf16_trains_on_the_cpu(make_rows: Make, make_job: Make) -> None:
    done = train(make_job(make_rows(8)), precision="bf16", steps=1)
    assert all(np.isfinite(value) for _, _, value in done.history)


@pytest.mark.usefixtures("small_trunk")
def test_the_rows_may_be_larger_or_smaller_than_a_view(make_rows: Make, make_job: Make) -> None:
    for size in (20, 48):
        done = train(make_job(make_rows(4, size), f"rows-{size}"), steps=1)
        assert np.isfinite(done.history[0][2])


@pytest.mark.usefixtures("small_trunk")
def test_a_training_that_is_interrupted_once_saves_its_step_and_goes_on_from_there(
    make_rows: Make, make_job: Make, make_watcher: Make
) -> None:
    class Pressing(type(make_watcher())):
        def metric(self, name: str, value: float, step: int) -> None:
            if (name, step) == ("loss", 2):
                signal.raise_signal(signal.SIGINT)

    rows = make_rows()
    undisturbed = train(make_job(rows, "undisturbed"), checkpoint_minutes=60, log_every=1)
    job = make_job(rows, "interrupted", Pressing())
    with stopping.patient(), pytest.raises(KeyboardInterrupt):
        train(job, checkpoint_minutes=60, log_every=1)
    assert [path.name for path in job.folder.glob("*.ckpt")] == ["step-0000000003.ckpt"]
    watcher = make_watcher()
    resumed = train(replace(job, progress=watcher.progress, metric=watcher.metric), checkpoint_minutes=60, log_every=1)
    assert watcher.steps[0] == (4, STEPS)
    assert resumed.backbone.read_bytes() == undisturbed.backbone.read_bytes()
