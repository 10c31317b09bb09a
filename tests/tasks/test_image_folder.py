from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from ctkit.contracts.judge import Judge
from ctkit.errors import CtkitError, DataError, RequestError
from ctkit.promises import check_splits
from ctkit_formats.pictures import decoded
from ctkit_tasks.image_files import LabelledFile
from ctkit_tasks.image_folder import ImageFolder, ImageFolderParams
from layouts import image_folder, picture, save


def task(root: Path, **params: str) -> ImageFolder:
    return ImageFolder(ImageFolderParams(root=root, **params))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "set", {"train": 6, "val": 2, "test": 4})


def test_splits_and_sorted_classes_come_from_the_folders(folder: Path) -> None:
    found = task(folder)
    assert found.classes == ("healthy", "lesion")
    assert found.positive_class == "lesion"
    assert {name: np.bincount(split.labels).tolist() for name, split in found.splits().items()} == {
        "train": [6, 6],
        "val": [2, 2],
        "test": [4, 4],
    }
    assert found.splits()["train"].names[0] == "train/healthy/patient-0_slice-0.png"
    assert found.splits()["train"].patients is None
    assert np.array_equal(found.image("train", 0), picture(0, 0))


def test_val_may_be_absent(folder: Path) -> None:
    (folder / "val").rename(folder / "elsewhere")
    assert list(task(folder).splits()) == ["train", "test"]


def test_files_are_all_images_with_paths_relative_to_the_root(folder: Path) -> None:
    files = list(task(folder).files())
    assert len(files) == 24
    assert all((folder / file.path).stat().st_size == file.size for file in files)


def test_a_pattern_finds_the_patients(folder: Path) -> None:
    splits = task(folder, patient=r"(patient-\d+)_").splits()
    assert splits["train"].patients is not None
    assert splits["train"].patients[:3] == ("patient-0", "patient-0", "patient-1")
    assert task(folder, patient=r"patient-\d+").splits().keys() == splits.keys()
    with pytest.raises(RequestError, match="finds none in"):
        task(folder, patient="subject").splits()
    with pytest.raises(RequestError, match="finds none in"):
        task(folder, patient=r"(subject)|patient").splits()  # whose group takes no part
    with pytest.raises(ValidationError, match="not a regular expression"):
        task(folder, patient="(")


def test_the_positive_class_can_be_named(folder: Path) -> None:
    assert task(folder, positive="healthy").positive_class == "healthy"
    with pytest.raises(RequestError, match="did you mean 'lesion'"):
        _ = task(folder, positive="leson").positive_class


def test_three_classes_have_no_positive_one(tmp_path: Path) -> None:
    root = image_folder(tmp_path, {"train": 2, "test": 2}, ("a", "b", "c"))
    assert task(root).positive_class is None
    with pytest.raises(RequestError, match="two classes; 3 were found"):
        _ = task(root, positive="a").positive_class


def test_unreadable_images_are_left_out_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (folder / "train" / "lesion" / "patient-100_slice-0.png").read_bytes()
    (folder / "train" / "lesion" / "patient-100_slice-0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "lesion" / "empty.jpg").write_bytes(b"")
    (folder / "train" / "lesion" / "notes.txt").write_text("no image")
    (folder / "train" / ".thumbnails").mkdir()
    save(folder / "train" / "lesion" / ".hidden.png", picture(1, 1))
    found = task(folder)
    with caplog.at_level(logging.WARNING):
        splits = found.splits()
    assert np.bincount(splits["train"].labels).tolist() == [6, 5]
    assert found.notes == ("2 missing or unreadable images skipped in train",)
    assert "2 of 13 images are missing or cannot be decoded" in caplog.text
    assert "patient" not in caplog.text
    assert np.array_equal(found.image("train", 6), picture(1, 1))


def test_a_split_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    root = image_folder(tmp_path, {"train": 2, "test": 2})
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="no image of test"):
        task(root).splits()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "expects train/<class>/ and test/<class>/.* it is empty"),
        (["a.png", "b.png"], "it contains a.png, b.png"),
        (["train/a/x.png"], "it contains train/"),
        (["train/x.png", "test/a/x.png"], "expects one folder per class .*train, but it contains x.png"),
        ([f"{letter}/x.png" for letter in "abcdefgh"], "it contains a/, b/, c/, d/, e/, f/ and 2 more"),
    ],
)
def test_a_wrong_layout_is_told_with_what_is_there(tmp_path: Path, entries: list[str], message: str) -> None:
    for entry in entries:
        save(tmp_path / entry, picture(0, 0))
    with pytest.raises(RequestError, match=message):
        task(tmp_path).splits()


@pytest.mark.parametrize(
    ("mode", "suffix", "kind", "channels"),
    [
        pytest.param("L", ".png", None, 1, id="grey"),
        pytest.param("1", ".png", None, 1, id="black and white"),
        pytest.param("LA", ".png", None, 1, id="grey with alpha"),
        pytest.param("RGB", ".jpg", None, 3, id="colour"),
        pytest.param("RGBA", ".png", None, 3, id="colour with alpha"),
        pytest.param("P", ".png", None, 3, id="palette"),
        pytest.param("CMYK", ".tif", None, 3, id="print colours"),
        pytest.param("RGB", ".png", "JPEG", 3, id="JPEG named .png"),
    ],
)
def test_every_mode_becomes_grey_or_three_colours(
    tmp_path: Path, mode: str, suffix: str, kind: str | None, channels: int
) -> None:
    path = tmp_path / f"40%_image{suffix}"
    save(path, picture(1, 0), mode, kind)
    image = decoded(path)
    assert image.dtype == np.uint8
    assert image.shape == ((40, 48) if channels == 1 else (40, 48, 3))


def test_a_transparent_palette_is_decoded_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 0)).convert("P").save(tmp_path / "a.png", transparency=b"\x00\x80" * 8)
    assert decoded(tmp_path / "a.png").shape == (40, 48, 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_images_keep_256_levels_by_the_depth_of_the_whole_set(tmp_path: Path, suffix: str, bits: int) -> None:
    root = image_folder(tmp_path / "set", {"train": 4, "test": 4})
    known = {}
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        values = np.random.default_rng(number).integers(0, 2**bits if number == 5 else 2 ** (bits - 1), (40, 48))
        path.unlink()
        Image.fromarray(values.astype(np.uint16)).save(path.with_suffix(suffix))
        known[path.with_suffix(suffix).relative_to(root).as_posix()] = values
    found = task(root)
    for split, part in found.splits().items():
        for number, name in enumerate(part.names):
            np.testing.assert_array_equal(found.image(split, number), known[name] >> (bits - 8))


def test_planted_lesions_in_12_bits_are_told_apart(tmp_path: Path) -> None:
    """Their mean differs by 40 of 4096, two and a half of 256 levels; shifted by 8 bits, both would be one level."""
    rng = np.random.default_rng(0)
    for split, label, number in itertools.product(("train", "test"), (0, 1), range(20)):
        values = rng.normal(1050, 20, (32, 32)) + 40 * label
        values[:4, :4] = 4095  # metal
        path = tmp_path / split / "ab"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint16)).save(path)
    found = task(tmp_path)
    means = [found.image("test", number)[4:].mean() for number in range(40)]
    assert roc_auc_score(found.splits()["test"].labels, means) == 1


def test_an_image_in_two_splits_by_one_name_is_refused_before_a_run_and_in_it(folder: Path) -> None:
    class Twice(ImageFolder):
        def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
            listed = dict(super().listed())
            return listed | {"val": [*listed["val"], listed["train"][0]]}

    found = Twice(ImageFolderParams(root=folder))
    assert list(found.check(None)) == [f"1 images of {folder} are listed in more than one of train, val, test"]
    with pytest.raises(CtkitError, match="under a name of its own, but 1 names come again"):
        check_splits(Judge("task"), found.splits(), found.classes)


def test_an_image_that_is_listed_again_counts_once_and_is_told(folder: Path) -> None:
    class Doubled(ImageFolder):
        def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
            return {name: [*files, *files[:2]] for name, files in super().listed().items()}

    found = Doubled(ImageFolderParams(root=folder))
    assert found.splits()["test"].names == task(folder).splits()["test"].names
    assert found.notes == tuple(
        f"2 images are listed again in {name}; each counts once" for name in ("train", "val", "test")
    )
