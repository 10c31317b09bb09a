"""The layout of the Medical Segmentation Decathlon in small, with what its archives really hold."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ctkit.contracts import Evaluation, Skipped, Volume
from ctkit.errors import DataError
from ctkit_datasets.decathlon import Decathlon, DecathlonParams, parts_of
from ctkit_datasets.decathlon_task import DecathlonTask, DecathlonTaskParams
from layouts import decathlon

NAMES = ("background", "liver", "cancer")


@pytest.fixture
def truth(tmp_path: Path) -> dict[str, np.ndarray]:
    return decathlon(tmp_path)


def scanned(root: Path, **parameters: object) -> tuple[Decathlon, list[Volume], dict[str, str]]:
    dataset = Decathlon(DecathlonParams(root=root, **parameters))  # type: ignore[arg-type]
    looked = [(file, dataset.inspect(file)) for file in dataset.files()]
    skipped = [found for _, found in looked if isinstance(found, Skipped)]
    volumes = []
    for one in dataset.arrange((file, found) for file, found in looked if not isinstance(found, Skipped)):
        (skipped if isinstance(one, Skipped) else volumes).append(one)  # type: ignore[arg-type]
    return dataset, volumes, {one.source: one.reason for one in skipped}


def task(root: Path, **parameters: object) -> DecathlonTask:
    return DecathlonTask(DecathlonTaskParams(root=root, **parameters))  # type: ignore[arg-type]


def test_scans_are_volumes_but_those_that_the_task_tests_by(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    _, volumes, skipped = scanned(tmp_path)
    tested = set(task(tmp_path).splits()["test"].patients or ())
    assert len(tested) == 2
    assert {Path(volume.key).name.partition(".")[0] for volume in volumes} == {f"liver_{n}" for n in range(12)} - tested
    for case in tested:
        assert "test case of task decathlon" in skipped[f"imagesTr/{case}.nii.gz"]
    assert skipped["imagesTr/._liver_0.nii.gz"] == "a file of macOS beside a scan"
    assert "segmentation" in skipped["labelsTr/liver_0.nii.gz"]
    assert len({volume.patient for volume in volumes}) == 10
    assert len(scanned(tmp_path, cases="all")[1]) == 12


def test_organs_and_tumours_are_findings_of_the_slices_that_show_them(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    dataset, volumes, _ = scanned(tmp_path, cases="all")
    for volume in volumes:
        name = Path(volume.key).name.partition(".")[0]
        found = dataset.facts(volume).findings
        expected = (
            {
                label: tuple(np.flatnonzero((truth[name] == number).any(axis=(1, 2))).tolist())
                for number, label in ((1, "liver"), (2, "cancer"))
            }
            if name in truth
            else {}
        )
        assert found == expected  # fmt: skip


def test_masks_and_images_lie_on_each_other_whichever_way_the_axes_run(
    tmp_path: Path, truth: dict[str, np.ndarray]
) -> None:
    found = task(tmp_path)
    assert found.classes == NAMES
    splits = found.splits()
    assert {name: len(split.stacks) for name, split in splits.items()} == {"train": 7, "val": 1, "test": 2}
    for part, split in splits.items():
        number = 0
        for stack in split.stacks:
            assert stack.slices == len(truth[stack.name])
            assert stack.spacing == pytest.approx((5.0, 0.9, 0.8))
            for mask in truth[stack.name]:
                assert np.array_equal(found.mask(part, number), mask)
                image = found.image(part, number)
                assert split.labels[number] == mask.max()
                assert (
                    image[mask == 1].mean() > image[(mask == 0)].mean() + 10
                    if mask.any()
                    else image.shape == mask.shape
                )
                assert (split.patients or ())[number] == stack.name
                number += 1


def test_the_window_is_that_of_the_backbones(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    found = task(tmp_path, window="abdomen")
    name = found.splits()["train"].stacks[0].name
    stored = nibabel.load(tmp_path / "imagesTr" / f"{name}.nii.gz")
    upright = nibabel.orientations.apply_orientation(
        np.asarray(stored.dataobj),
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(stored.affine), nibabel.orientations.axcodes2ornt("LPS")
        ),
    ).transpose(2, 1, 0)
    expected = np.rint((upright.clip(-150, 250).astype(float) + 150) * 255 / 400)
    assert np.array_equal(found.image("train", 1), expected[1])


def test_cases_that_are_damaged_or_do_not_fit_are_left_out_and_told(
    tmp_path: Path, truth: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    train = parts_of([f"imagesTr/{name}.nii.gz" for name in truth])["train"]
    scan, mask, other, numbers = (tmp_path / path for path in train[:4])
    scan.write_bytes(scan.read_bytes()[:400])
    labels = [path.parent.with_name("labelsTr") / path.name for path in (mask, other, numbers)]
    labels[0].write_bytes(b"no NIfTI")
    for path, change in ((labels[1], lambda v: v[:-1]), (labels[2], lambda v: v + 7)):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)
    with caplog.at_level(logging.WARNING):
        found = task(tmp_path)
        assert len(found.splits()["train"].stacks) == 3
    assert len(caplog.records) == len(found.notes) == 4
    assert all(word in caplog.text for word in ("damaged", "not a NIfTI file", "another size", "other numbers"))
    assert not any(name in caplog.text for name in truth)


def test_a_share_of_parts_stays_when_a_case_is_missing() -> None:
    whole = parts_of([f"imagesTr/c_{number}.nii.gz" for number in range(50)])
    assert {name: len(cases) for name, cases in whole.items()} == {"train": 35, "val": 5, "test": 10}
    fewer = parts_of([f"imagesTr/c_{number}.nii.gz" for number in range(49)])
    assert len(set(whole["test"]) & set(fewer["test"])) >= 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "dataset.json").unlink(), "expects dataset.json in"),
        (lambda root: (root / "dataset.json").write_text('{"modality": {"0": "MRI"}}'), "not a CT set"),
        (lambda root: (root / "dataset.json").write_text('{"modality": ["CT"]}'), "not a CT set"),
        (lambda root: (root / "labelsTr").rename(root / "other"), "expects scans in"),
    ],
)
def test_what_is_missing_is_said_before_a_run(tmp_path: Path, truth: object, change, words: str) -> None:
    change(tmp_path)
    for plugin in (task(tmp_path), Decathlon(DecathlonParams(root=tmp_path))):
        (said,) = plugin.check(None)
        assert words in said


def test_labels_that_are_not_numbered_from_0_are_refused(tmp_path: Path, truth: object) -> None:
    known = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(known | {"labels": {"0": "background", "2": "cancer"}}))
    with pytest.raises(Exception, match="must number its labels from 0 on"):
        _ = task(tmp_path).classes


def test_a_set_without_a_case_to_test_by_is_refused(tmp_path: Path) -> None:
    decathlon(tmp_path, cases=2)
    with pytest.raises(DataError, match="no case for train"):
        task(tmp_path).splits()


@pytest.mark.slow
def test_a_set_is_segmented(tmp_path: Path, truth: object) -> None:
    from ctkit_tasks.segment import Segment
    from ctkit_tasks.segment_params import SegmentParams
    from ctkit_torch.backbones import random_backbone, save_backbone

    root = tmp_path
    save_backbone(root / "b.safetensors", random_backbone("resnet18", 0).trunk, mean=0.5, std=0.25, metadata={})
    job = Evaluation(task(root), root / "b.safetensors", root / "kept", 1.0, 0, "cpu", 2, lambda done, total: None)
    found = Segment(SegmentParams(size=32, epochs=2, batch=8, learning_rate=3e-3)).predict(job)
    assert list(found.measures) == [f"{metric}{of}" for of in ("", "_liver", "_cancer") for metric in ("dice", "hd95")]
    assert found.measures["dice_liver"].mean() > 0.3
