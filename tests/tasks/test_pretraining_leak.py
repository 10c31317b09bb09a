from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctkit import rendering
from ctkit.contracts import Rows
from ctkit_tasks import findings as module
from ctkit_tasks.findings import pretraining_leak, pretraining_leaks
from ctkit_tasks.image_folder import ImageFolder, ImageFolderParams
from layouts import image_folder, picture

ALIKE = "(16 or fewer of 256 hash bits differ)"
LEAK = f"test: 1 of 9 images are near-duplicates of a slice of the pre-training {ALIKE}"


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Path, Path]:
    """Two shards of 5 slices of 64 pixels; the last of each is air."""
    paths = tmp_path / "0.npy", tmp_path / "1.npy"
    for number, path in enumerate(paths):
        slices = [picture(0, 10_000 + 10 * number + i, (64, 64)) for i in range(4)]
        np.save(path, np.stack([*slices, np.zeros((64, 64), np.uint8)]))
    return paths


@pytest.fixture
def task(tmp_path: Path, shards: tuple[Path, Path]) -> ImageFolder:
    """8 test images of its own, and the third slice of the second shard as a smaller JPEG."""
    root = image_folder(tmp_path / "images", {"train": 4, "test": 4})
    leaked = Image.fromarray(np.load(shards[1])[2]).resize((50, 50))
    leaked.save(root / "test" / "lesion" / "leaked.jpg", quality=85)
    return ImageFolder(ImageFolderParams(root=root))


def rows(shards: tuple[Path, ...], *taken: tuple[int, int]) -> Rows:
    """An arm of some slices, by shard and row."""
    shard, row = np.array(taken, np.int64).reshape(-1, 2).T
    return Rows(shards, shard, row, shard, 64, 0.5, 0.2)


def told(task: ImageFolder, slices: Rows | None) -> list[str]:
    return list(pretraining_leak(task, pretraining_leaks(task, slices)))


def test_a_slice_among_the_test_images_is_found(task: ImageFolder, shards: tuple[Path, Path]) -> None:
    every = [(shard, row) for shard in range(2) for row in range(5)]
    assert told(task, rows(shards, *every)) == [LEAK]


def test_only_slices_that_the_arm_keeps_count(task: ImageFolder, shards: tuple[Path, Path]) -> None:
    assert told(task, rows(shards, (0, 2), (1, 0), (1, 4))) == []
    assert told(task, rows(shards, (1, 2))) == [LEAK]


def test_a_leak_names_the_nearest_slice_by_its_number(task: ImageFolder, shards: tuple[Path, Path]) -> None:
    copy = np.load(shards[0])
    copy[3] = np.asarray(Image.fromarray(np.load(shards[1])[2]).resize((20, 20)).resize((64, 64)))
    np.save(shards[0].with_name("2.npy"), copy)
    paths, shard, row = (*shards, shards[0].with_name("2.npy")), np.array([2, 0, 1, 1]), np.array([3, 1, 2, 0])
    four = Rows(paths, shard, row, shard, 64, 0.5, 0.2)
    (leak,) = pretraining_leaks(task, four)
    assert leak[2:8] == ("test", "test/lesion/leaked.jpg", "lesion", "pretraining", "2", "")
    assert leak.distance <= 8


def test_slices_that_are_unknown_are_not_judged(task: ImageFolder, shards: tuple[Path, Path]) -> None:
    assert told(task, None) == []
    assert told(task, rows(shards)) == []


def test_each_shard_is_hashed_once_for_all_arms(
    task: ImageFolder, shards: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    real = module.dhash
    monkeypatch.setattr(module, "dhash", lambda grey, side: (hashed.append(len(grey)), real(grey, side))[1])
    for arm in (rows(shards, (0, 0), (1, 2)), rows(shards, (0, 1)), rows(shards, (1, 3))):
        told(task, arm)
    assert [slices for slices in hashed if slices > 1] == [5, 5]  # test images are hashed one by one


@pytest.mark.parametrize("form", [(64, 40), (30, 64)])
def test_a_slice_that_is_not_square_is_found_as_pre_training_pads_it(tmp_path: Path, form: tuple[int, int]) -> None:
    slices = np.stack([picture(0, 20_000 + i, form) for i in range(6)])
    np.save(tmp_path / "0.npy", rendering.fit(slices, 64))
    root = image_folder(tmp_path / "images", {"train": 4, "test": 4})
    Image.fromarray(slices[2]).save(root / "test" / "lesion" / "leaked.png")
    task = ImageFolder(ImageFolderParams(root=root))
    (leak,) = pretraining_leaks(task, rows((tmp_path / "0.npy",), *((0, row) for row in range(6))))
    assert (Path(leak.name).name, leak.other_name) == ("leaked.png", "2")
