from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ctkit import stopping
from ctkit.contracts import Evaluation, Predictions
from ctkit_tasks import features as features_module
from ctkit_tasks.classification import Classification
from ctkit_tasks.features import extract
from ctkit_tasks.image_folder import ImageFolder, ImageFolderParams
from ctkit_tasks.knn import Knn, KnnParams, vote
from ctkit_tasks.linear import STRENGTHS, Linear, LinearParams, chosen_fit, log_loss
from ctkit_tasks.parts import Part, parts_of
from ctkit_torch.backbones import load_backbone
from ctkit_torch.trunks import Trunk
from layouts import image_folder

PROTOCOLS = [
    pytest.param(Linear(LinearParams(size=32)), id="linear"),
    pytest.param(Knn(KnnParams(size=32, k=5)), id="knn"),
]


@pytest.fixture
def job(tmp_path: Path, backbone: Path) -> Evaluation:
    root = image_folder(tmp_path / "images", {"train": 10, "val": 4, "test": 8})
    task = ImageFolder(ImageFolderParams(root=root, patient=r"(patient-\d+)_"))
    return Evaluation(task, backbone, tmp_path / "kept", 1.0, 0, "cpu", 0, lambda done, total: None)


def accuracy(predictions: Predictions) -> float:
    return float((predictions.probabilities.argmax(axis=1) == predictions.labels).mean())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_tells_classes_apart_that_differ(protocol: Classification, job: Evaluation) -> None:
    predictions = protocol.predict(job)
    assert accuracy(predictions) == 1
    assert predictions.probabilities.sum(axis=1) == pytest.approx(np.ones(16))
    assert predictions.names == job.task.splits()["test"].names
    assert predictions.patients == job.task.splits()["test"].patients
    assert (predictions.classes, predictions.positive) == (("healthy", "lesion"), "lesion")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_job_gives_the_same_predictions(protocol: Classification, job: Evaluation, tmp_path: Path) -> None:
    once = protocol.predict(job)
    with_threads = protocol.predict(replace(job, workers=3, folder=tmp_path / "threads"))
    assert np.array_equal(once.probabilities, with_threads.probabilities)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_few_labels_are_enough_where_classes_differ(protocol: Classification, job: Evaluation) -> None:
    predictions = protocol.predict(replace(job, labels=0.2))
    assert accuracy(predictions) > 0.9
    assert "4 of 20 training labels were used" in predictions.notes


def test_neither_protocol_changes_the_trunk_or_its_running_statistics(job: Evaluation) -> None:
    before = job.backbone.read_bytes()
    trunk = load_backbone(job.backbone).trunk
    Linear(LinearParams(size=32)).predict(job)
    assert job.backbone.read_bytes() == before
    for name, weight in load_backbone(job.backbone).trunk.state_dict().items():
        torch.testing.assert_close(weight, trunk.state_dict()[name])


def test_features_are_the_trunks_whatever_the_batch(job: Evaluation, tmp_path: Path) -> None:
    parts = parts_of(job)
    calls: list[tuple[int, int]] = []
    counting = replace(job, progress=lambda done, total: calls.append((done, total)))
    (whole, test) = extract(counting, (parts.train, parts.test), 32)
    assert calls == [(20, 36), (36, 36)]
    for batch in (1, 7):
        apart = replace(job, folder=tmp_path / f"batch-{batch}")
        torch.testing.assert_close(extract(apart, (parts.train,), 32, batch)[0], whole, rtol=1e-4, atol=1e-5)
    trunk = load_backbone(job.backbone).trunk
    image = torch.tensor(job.task.image("test", 3))[None, None].expand(-1, 3, -1, -1)
    small = torch.nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = trunk((small.float() / 255 - 0.5) / 0.25)[0]  # the backbone's mean and standard deviation
    assert np.corrcoef(test[3], expected.numpy())[0, 1] > 0.999  # torch and Pillow round differently


def test_the_tasks_own_normalisation_goes_before_the_backbones(job: Evaluation, tmp_path: Path) -> None:
    class Normalised(ImageFolder):
        mean_std = (0.1, 0.9)

    part = Part("test", np.arange(2), np.zeros(2, np.int64))
    own = extract(replace(job, task=Normalised(job.task.params), folder=tmp_path / "own"), (part,), 32)[0]
    assert not np.allclose(own, extract(job, (part,), 32)[0])


def test_features_are_computed_without_tf32(job: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []
    forward = Trunk.forward

    def recorded(trunk: Trunk, images: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return forward(trunk, images)

    monkeypatch.setattr(Trunk, "forward", recorded)
    extract(job, (parts_of(job).test,), 32)
    assert allowed == [False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_the_features_of_the_cpu(job: Evaluation, tmp_path: Path) -> None:
    part = parts_of(job).test
    on_gpu = replace(job, device="cuda", folder=tmp_path / "gpu")
    np.testing.assert_allclose(extract(on_gpu, (part,), 32)[0], extract(job, (part,), 32)[0], rtol=1e-3, atol=1e-3)


def test_one_press_of_ctrl_c_ends_the_extraction_after_the_block_at_hand(
    job: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "BLOCK", 6)
    part = Part("test", np.arange(16), np.zeros(16, np.int64))
    told: list[int] = []

    def press(done: int, total: int) -> None:
        told.append(done)
        signal.raise_signal(signal.SIGINT)

    with stopping.patient(), pytest.raises(KeyboardInterrupt):
        extract(replace(job, progress=press), (part,), 32)
    (kept,) = job.folder.rglob("*.npy")
    assert (told, len(np.load(kept))) == ([6], 6)


def test_labels_repeats_and_protocols_share_one_pass_of_the_trunk(
    job: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = Trunk.forward
    monkeypatch.setattr(Trunk, "forward", lambda self, images: (seen.append(len(images)), real(self, images))[1])
    for labels, seed in ((0.2, 0), (1.0, 0), (1.0, 1)):
        Linear(LinearParams(size=32)).predict(replace(job, labels=labels, seed=seed))
        Knn(KnnParams(size=32, k=5)).predict(replace(job, labels=labels, seed=seed))
    assert sum(seen) == 20 + 8 + 16  # each image of train, val and test once
    Knn(KnnParams(size=48, k=5)).predict(job)
    assert sum(seen) == 44 + 20 + 16


def test_an_extraction_that_was_killed_goes_on_with_the_same_features(
    job: Evaluation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(features_module, "BLOCK", 8)
    part = parts_of(job).train

    def stop(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(replace(job, progress=stop), (part,), 32, batch=4)
    assert len(list(job.folder.rglob("train-*.npy"))) == 1
    (resumed,) = extract(job, (part,), 32, batch=4)
    (undisturbed,) = extract(replace(job, folder=tmp_path / "undisturbed"), (part,), 32, batch=4)
    assert np.array_equal(resumed, undisturbed)


def test_damaged_features_are_made_anew(job: Evaluation, caplog: pytest.LogCaptureFixture) -> None:
    part = parts_of(job).test
    (whole,) = extract(job, (part,), 32)
    (file,) = job.folder.rglob("test-*.npy")
    file.write_bytes(file.read_bytes()[:200])
    assert np.array_equal(extract(job, (part,), 32)[0], whole)
    assert "damaged" in caplog.text


def features(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(size=(count, 10)) * 5 + np.eye(3, 10)[labels] * 6).astype(np.float32), labels


def test_the_strength_is_the_best_on_validation_images_and_the_fit_is_scikit_learns() -> None:
    (train, labels), (val, val_labels) = features(90, 0), features(60, 1)
    losses = []
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000)).fit(train, labels)
        losses.append(log_loss(model.predict_proba(val), val_labels))
    fit = chosen_fit(train, labels, val, val_labels, 3)
    best = int(np.argmin(losses))
    assert 0 < best < len(STRENGTHS) - 1
    assert STRENGTHS[best] == fit.model.C
    assert fit.converged
    assert log_loss(fit.probabilities(val), val_labels) == pytest.approx(losses[best], rel=1e-3)


def test_a_class_without_training_images_is_never_called() -> None:
    (train, labels), (val, val_labels) = features(90, 0), features(30, 1)
    known = labels != 1
    fit = chosen_fit(train[known], labels[known], val, val_labels, 4)
    assert fit.probabilities(val).shape == (30, 4)
    assert not fit.probabilities(val)[:, [1, 3]].any()


def test_votes_equal_scikit_learns() -> None:
    (train, labels), (test, _) = features(120, 0), features(700, 1)
    model = KNeighborsClassifier(9, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.2))
    expected = model.fit(train.astype(float), labels).predict_proba(test.astype(float))
    assert vote(train, labels, test, 9, 0.2) == pytest.approx(expected)


def test_more_neighbours_than_images_are_lowered_and_said(job: Evaluation) -> None:
    predictions = Knn(KnnParams(size=32, k=50)).predict(job)
    assert "k was lowered from 50 to 20, the number of training images" in predictions.notes
    assert np.isfinite(predictions.probabilities).all()


def test_scoring_needs_no_torch(repository: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from ctkit.contracts import Predictions; from ctkit_tasks.linear import Linear;"
        "p = Predictions(('a', 'b'), np.array([0, 1]), np.eye(2), ('x', 'y')); Linear().scores([p]);"
        "Linear().compare([p], [p]); assert not {'torch', 'monai', 'sklearn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)
