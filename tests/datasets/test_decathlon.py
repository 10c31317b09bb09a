"""The layout of the Medical Segmentation Decathlon in small, with what its archives really hold."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ctkit.contracts import Evaluation, Skipped, Volume
from ctkit.errors import DataError, RequestError
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


def name_labels(root: Path, labels: object) -> None:
    known = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(known | {"labels": labels}))


def change_masks(root: Path, change) -> None:
    for path in (root / "labelsTr").glob("liver*"):
        stored = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(change(np.asarray(stored.dataobj)), stored.affine), path)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"0": "background"}, "must name its labels by number"),
        ({"background": 0, "liver": 1}, "must name its labels by number"),
        (["background", "liver"], "must name its labels by number"),
        ({"1": "liver", "2": "cancer"}, "must name a background, 0"),
        ({"0": "background", "1": "liver", "2": "liver"}, "each with a name of its own"),
        ({"0": "background", "1": "liver", "2": "ignore"}, "a label to ignore, which is not supported"),
    ],
)
def test_labels_that_are_no_classes_are_refused_before_a_run(
    tmp_path: Path, truth: object, labels: object, words: str
) -> None:
    name_labels(tmp_path, labels)
    (said,) = task(tmp_path).check(None)
    assert words in said
    with pytest.raises(RequestError, match=words):
        _ = task(tmp_path).classes


def test_numbers_of_labels_may_have_gaps(tmp_path: Path, truth: dict[str, np.ndarray]) -> None:
    name_labels(tmp_path, {"7": "cancer", "0": "background", "3": "liver"})
    change_masks(tmp_path, lambda mask: np.array([0, 3, 7], np.uint8)[mask])
    found = task(tmp_path)
    assert found.classes == NAMES
    (stack, *_) = found.splits()["test"].stacks
    assert np.array_equal(np.stack([found.mask("test", n) for n in range(stack.slices)]), truth[stack.name])


def test_masks_of_real_numbers_are_labels_with_rounding_errors_and_no_others(
    tmp_path: Path, truth: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    change_masks(tmp_path, lambda mask: mask + rng.uniform(-1e-4, 1e-4, mask.shape).astype(np.float32))
    found = task(tmp_path)
    (stack, *_) = found.splits()["test"].stacks
    assert np.array_equal(np.stack([found.mask("test", n) for n in range(stack.slices)]), truth[stack.name])
    dataset, volumes, _ = scanned(tmp_path, cases="all")
    shown = {name: np.flatnonzero((mask == 1).any(axis=(1, 2))).tolist() for name, mask in truth.items()}
    for volume in volumes:
        if name := shown.get(Path(volume.key).name.partition(".")[0]):
            assert list(dataset.facts(volume).findings["liver"]) == name
    first, second, *_ = sorted(truth)
    for name, wrong in ((first, np.nan), (second, 0.4)):
        path = tmp_path / "labelsTr" / f"{name}.nii.gz"
        values = np.asarray(nibabel.load(path).dataobj).copy()
        values[0, 0, 0] = wrong
        nibabel.save(nibabel.Nifti1Image(values, nibabel.load(path).affine), path)
    with caplog.at_level(logging.WARNING):
        assert sum(len(split.stacks) for split in task(tmp_path).splits().values()) == 8
    assert "cases left out: 2 (its mask holds other numbers than dataset.json names, or fractions" in caplog.text


@pytest.mark.parametrize(
    ("label", "title"),
    [("colon cancer primaries", "colon cancer primaries"), ("Vessel", "vessel"), ("Mueller nodule", "label 1")],
)
def test_labels_of_the_published_sets_are_named_and_persons_are_not(
    tmp_path: Path, truth: object, label: str, title: str
) -> None:
    name_labels(tmp_path, {"0": "background", "1": label, "2": "cancer"})
    dataset, volumes, _ = scanned(tmp_path)
    kinds = {kind.lower() for volume in volumes for kind in dataset.facts(volume).findings}
    assert kinds == {title, "cancer"}


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
