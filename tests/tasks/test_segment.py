from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctkit.contracts import Evaluation, NoParams, Split, Stack, Task
from ctkit.errors import DataError
from ctkit_tasks import epochs, segmenting
from ctkit_tasks.overlap import measures
from ctkit_tasks.parts import parts_of
from ctkit_tasks.segment import Segment
from ctkit_tasks.segment_params import SegmentParams

SHORT = SegmentParams(size=32, epochs=2, batch=8, learning_rate=3e-3)
SPACING = (4.0, 1.0, 0.5)


class Discs(Task[NoParams]):
    """A bright disc in noise, with a darker one inside in every second patient; masks are twice as fine as images."""

    classes = ("background", "disc", "hole")
    masks = True
    sizes: ClassVar = {"train": 6, "val": 2, "test": 3}  # patients of four slices

    def splits(self) -> dict[str, Split]:
        return {part: self._split(part, patients) for part, patients in self.sizes.items()}

    def _split(self, part: str, patients: int) -> Split:
        names = [f"{part}-{number}" for number in range(patients)]
        return Split(
            names=tuple(f"{name}-{slice_}" for name in names for slice_ in range(4)),
            labels=np.repeat(1 + np.arange(patients) % 2, 4),
            patients=tuple(name for name in names for _ in range(4)),
            stacks=tuple(Stack(name, 4, SPACING) for name in names),
        )

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([list(self.sizes).index(split), number])
        level = np.array([40, 200, 110])[self.mask(split, number)[::2, ::2]]
        return (level + rng.normal(0, 15, level.shape)).clip(0, 255).astype(np.uint8)

    def mask(self, split: str, number: int) -> NDArray[np.uint8]:
        y, x = np.mgrid[:64, :64]
        rng = np.random.default_rng([list(self.sizes).index(split), number // 4])
        radius = np.hypot(y - rng.uniform(28, 36), x - rng.uniform(28, 36))
        return ((radius < 22).astype(np.uint8) + (radius < 9) * (number // 4 % 2)).astype(np.uint8)


@cache
def discs() -> Discs:
    return Discs(NoParams())


@pytest.fixture
def job(tmp_path: Path, backbone: Path) -> Evaluation:
    return Evaluation(discs(), backbone, tmp_path / "kept", 1.0, 0, "cpu", 2, lambda done, total: None)


def test_it_learns_and_measures_volumes_at_the_size_of_their_masks(
    job: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def recorded(found: NDArray[np.uint8], truth: NDArray[np.uint8], *rest: object) -> dict[str, float]:
        seen.append((found, truth))
        return measures(found, truth, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(segmenting, "measures", recorded)
    found = Segment(SHORT.model_copy(update={"epochs": 4})).predict(job)
    assert found.names == ("test-0", "test-1", "test-2") == found.patients
    assert min(found.measures["dice_disc"]) > 0.85
    assert max(found.measures["hd95_disc"]) < 6
    assert len(found.probabilities) == 3
    for number, (predicted, truth) in enumerate(seen):
        assert predicted.shape == truth.shape == (4, 64, 64)
        assert np.array_equal(truth[2], discs().mask("test", 4 * number + 2))
        again = measures(predicted, truth, discs().classes, SPACING)
        assert again == {name: values[number] for name, values in found.measures.items()}


def test_a_killed_training_ends_as_an_undisturbed_one_whatever_the_threads(
    job: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Segment(SHORT).predict(replace(job, folder=tmp_path / "undisturbed", workers=0))
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0)

    def stop(done: int, total: int) -> None:
        if done == total - 2:  # in the second epoch of three steps
            raise KeyboardInterrupt

    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        Segment(SHORT).predict(replace(job, progress=stop))
    told: list[tuple[int, int]] = []
    resumed = Segment(SHORT).predict(replace(job, progress=lambda done, total: told.append((done, total))))
    assert told == [(done, 6) for done in range(4, 7)]
    assert torch.equal(torch.get_rng_state(), before)
    for name, values in undisturbed.measures.items():
        assert np.array_equal(values, resumed.measures[name])
    assert [path.suffix for path in job.folder.rglob("*") if path.is_file()] == [".safetensors"]


@pytest.mark.parametrize("trunk", ["frozen", "tuned"])
def test_a_frozen_trunk_stays_as_it_was(job: Evaluation, trunk: str) -> None:
    params = SHORT.model_copy(update={"trunk": trunk, "epochs": 1})
    Segment(params).predict(job)
    from safetensors.torch import load_file

    (model,) = job.folder.rglob("model.safetensors")
    prefix, weights, start = "trunk.trunk.network.", load_file(model), load_file(job.backbone)
    same = [torch.equal(weights[prefix + name], value) for name, value in start.items() if not name.startswith("fc.")]
    assert all(same) if trunk == "frozen" else not any(same[:-1])


def test_a_share_of_the_labels_is_a_share_of_the_patients(job: Evaluation) -> None:
    whole, third = (parts_of(replace(job, labels=labels)) for labels in (1.0, 1 / 3))
    assert len(whole.train.numbers) == 24
    patients = discs().splits()["train"].patients
    assert patients is not None
    used = [patients[number] for number in third.train.numbers]
    assert len(used) == 4 * len(set(used)) == 8
    assert "8 of 24 training labels were used" in third.notes


def test_a_class_that_no_test_volume_shows_is_warned_of(job: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Discs.mask
    monkeypatch.setattr(Discs, "mask", lambda self, split, n: known(self, split, n) % (3 if split != "test" else 2))
    found = Segment(SHORT.model_copy(update={"epochs": 1})).predict(job)
    assert found.warnings[-1].startswith("test has no volume that shows hole; its scores only tell")
    assert set(found.measures["dice_hole"]) <= {0.0, 1.0}


def test_a_class_on_every_slice_is_segmented(job: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Discs.splits

    def on_every_slice(self: Discs) -> dict[str, Split]:
        return {name: replace(split, labels=np.full(len(split.labels), 2)) for name, split in known(self).items()}

    monkeypatch.setattr(Discs, "splits", on_every_slice)
    assert len(parts_of(job, masks=True).train.numbers) == 24
    with pytest.raises(DataError, match="only class hole"):
        parts_of(job)
    monkeypatch.setattr(
        Discs, "splits", lambda self: {k: replace(s, labels=0 * s.labels) for k, s in known(self).items()}
    )
    with pytest.raises(DataError, match="only class background"):
        parts_of(job, masks=True)


def test_colour_is_refused(job: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Discs, "image", lambda *_: np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="grey"):
        Segment(SHORT).predict(job)
