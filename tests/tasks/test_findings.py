from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctkit.contracts import Leak
from ctkit_tasks.findings import findings
from ctkit_tasks.fingerprints import fingerprints
from ctkit_tasks.image_folder import ImageFolder, ImageFolderParams
from ctkit_tasks.phantom import PhantomLesions, PhantomLesionsParams
from layouts import image_folder, picture, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return image_folder(tmp_path, {"train": 6, "val": 2, "test": 4})


def found(root: Path) -> tuple[str, ...]:
    told = findings(ImageFolder(ImageFolderParams(root=root, patient=r"(patient-\d+)_")))
    return (*told.notes, *told.warnings)


CONTRADICTED = (
    "test: {} images equal or nearly equal one in train that has another label: a label is wrong, or what tells them "
    "apart is too small for the hash; leaks.csv names them"
)
COUNTS = "images: train 6 healthy, 6 lesion; val 2 healthy, 2 lesion; test 4 healthy, 4 lesion"


def test_a_clean_set_is_only_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert found(root) == (COUNTS,)
    assert not caplog.records


def test_the_phantom_task_has_no_leaks() -> None:
    assert not findings(PhantomLesions(PhantomLesionsParams(train=8, val=4, test=8, size=64))).warnings


def test_a_copied_image_is_found_whatever_its_file_is_called(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = root / "test" / "lesion" / "patient-9000_slice-0.bmp"
    Image.open(root / "train" / "lesion" / "patient-100_slice-0.png").save(copy)
    with caplog.at_level(logging.WARNING):
        assert found(root)[1:] == ("test: 1 of 9 images are in train as well",)
    assert "test: 1 of 9 images are in train as well" in caplog.text


@pytest.mark.parametrize("change", ["jpeg", "smaller", "colour"])
def test_a_near_copy_is_found(root: Path, change: str) -> None:
    original = Image.open(root / "train" / "lesion" / "patient-100_slice-0.png")
    copy = root / "test" / "healthy" / "patient-9000_slice-0"
    if change == "jpeg":
        original.save(copy.with_suffix(".jpg"), quality=70)
    elif change == "smaller":
        original.resize((44, 36), Image.Resampling.BICUBIC).save(copy.with_suffix(".png"))
    else:
        original.convert("RGB").save(copy.with_suffix(".png"))
    assert found(root)[1:] == (
        "test: 1 of 9 images are near-duplicates of one in train (16 or fewer of 256 hash bits differ)",
        CONTRADICTED.format("1 of 9"),
    )
    (leak,) = findings(ImageFolder(ImageFolderParams(root=root, patient=r"(patient-\d+)_"))).leaks
    ours, theirs = "test/healthy/patient-9000_slice-0", "train/lesion/patient-100_slice-0.png"
    name, _, suffix = leak.name.rpartition(".")
    assert (name, suffix in ("jpg", "png")) == (ours, True)
    assert leak[2:] == ("test", leak.name, "healthy", "train", theirs, "lesion", leak.distance)
    assert 0 <= leak.distance <= 16


def test_of_several_alike_the_nearest_of_each_label_is_named(root: Path) -> None:
    original = Image.open(root / "train" / "lesion" / "patient-100_slice-0.png")
    original.save(root / "train" / "lesion" / "patient-500_slice-0.jpg", quality=60)
    original.save(root / "train" / "healthy" / "patient-501_slice-0.jpg", quality=60)
    original.save(root / "test" / "lesion" / "patient-9000_slice-0.png")
    told = findings(ImageFolder(ImageFolderParams(root=root)))
    assert told.warnings == ("test: 1 of 9 images are in train as well", CONTRADICTED.format("1 of 9"))
    test = ("", "", "test", "test/lesion/patient-9000_slice-0.png", "lesion", "train")
    other, same = sorted(told.leaks, key=lambda leak: leak.other_label)
    assert same == Leak(*test, "train/lesion/patient-100_slice-0.png", "lesion", 0)
    assert other == Leak(*test, "train/healthy/patient-501_slice-0.jpg", "healthy", other.distance)
    assert other.distance <= 16


def test_a_patient_on_both_sides_is_found(root: Path) -> None:
    save(root / "test" / "lesion" / "patient-101_slice-7.png", picture(1, 777))
    assert found(root)[1:] == ("test: 1 of 5 patients are in train as well",)


def test_blank_images_are_no_leak(root: Path) -> None:
    for split in ("train", "test"):
        save(root / split / "lesion" / f"patient-{len(split)}_blank.png", np.zeros((40, 48), np.uint8))
    assert len(found(root)) == 1


def disc(row: int, column: int) -> np.ndarray:
    """An image (200, 200) that is black but for a small disc, which flips few bits of its hash."""
    y, x = np.mgrid[:200, :200]
    return np.where((y - row) ** 2 + (x - column) ** 2 < 8**2, 200, 0).astype(np.uint8)


def test_images_that_are_nearly_blank_are_no_near_copies(root: Path) -> None:
    save(root / "train" / "lesion" / "patient-5_dark.png", disc(20, 20))
    save(root / "test" / "lesion" / "patient-6_dark.png", disc(180, 180))
    assert len(found(root)) == 1


def test_a_copied_image_that_is_nearly_blank_hides_no_near_copy(root: Path) -> None:
    save(root / "train" / "lesion" / "patient-5_dark.png", disc(20, 20))
    save(root / "test" / "lesion" / "patient-6_dark.png", disc(20, 20))
    original = Image.open(root / "train" / "lesion" / "patient-100_slice-0.png")
    original.save(root / "test" / "healthy" / "patient-9000_slice-0.jpg", quality=70)
    assert found(root)[1:] == (
        "test: 1 of 10 images are in train as well",
        "test: 1 of 10 images are near-duplicates of one in train (16 or fewer of 256 hash bits differ)",
        CONTRADICTED.format("1 of 10"),
    )


def test_many_tasks_are_read_once_each(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = ImageFolder.image
    monkeypatch.setattr(ImageFolder, "image", lambda self, *of: (read.append(of), whole(self, *of))[1])
    tasks = [ImageFolder(ImageFolderParams(root=root, patient=r"(patient-\d+)_")) for _ in range(5)]
    for task in tasks * 2:
        findings(task)
        fingerprints(task, "test")
    assert len(read) == 5 * 24


def test_missing_classes_and_unreadable_files_are_told(root: Path) -> None:
    for path in (root / "test" / "lesion").iterdir():
        path.unlink()
    (root / "val" / "healthy" / "patient-1000_slice-0.png").write_bytes(b"broken")
    assert found(root) == (
        "images: train 6 healthy, 6 lesion; val 1 healthy, 2 lesion; test 4 healthy, 0 lesion",
        "1 missing or unreadable images skipped in val",
        "test has no image of class lesion; AUC and average precision are undefined",
    )


def test_what_speaks_against_deep_images_and_lists_is_told(root: Path) -> None:
    for path in root.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 16).save(path)
    pages = [Image.fromarray(picture(1, number)) for number in (70, 71)]
    pages[0].save(root / "test" / "lesion" / "patient-9_pages.tif", save_all=True, append_images=pages[1:])
    assert found(root)[1:] == (
        "pictures: 24 of 16 bits, shown from 0 to 4096; 1 of 8 bits, shown from 0 to 256",
        "1 files of test hold several pages, of which the first is used",
    )
    for path in root.rglob("*.png"):
        Image.fromarray((np.asarray(Image.open(path)) >> 8).astype(np.uint8)).save(path)
    assert "half of the 25 images are darker than 16 of 256 grey levels in 99 % of their pixels" in found(root)
