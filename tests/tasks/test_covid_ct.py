from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctkit.errors import RequestError
from ctkit_tasks.covid_ct import CovidCt, CovidCtParams
from layouts import covid_ct, picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return covid_ct(tmp_path, {"train": 8, "val": 2, "test": 4})


def test_the_official_lists_make_the_splits(root: Path) -> None:
    task = CovidCt(CovidCtParams(root=root))
    splits = task.splits()
    assert {name: np.bincount(split.labels).tolist() for name, split in splits.items()} == {
        "train": [8, 8],
        "val": [2, 2],
        "test": [4, 4],
    }
    assert (task.classes, task.positive_class) == (("NonCOVID", "COVID"), "COVID")
    assert splits["train"].names[8] == "Images-processed/CT_COVID/2020.02.00 COVID%0-p0_1.png"
    assert not any("in-no-list" in name for split in splits.values() for name in split.names)
    assert task.notes == ("1 missing or unreadable images left out of test",)


def test_images_of_every_mode_and_size_are_decoded(root: Path) -> None:
    task = CovidCt(CovidCtParams(root=root))
    shapes = [task.image("train", number).shape for number in range(4)]
    assert shapes == [(30, 60), (37, 115, 3), (44, 60, 3), (51, 115, 3)]
    assert np.array_equal(task.image("train", 0), picture(0, 0, (30, 60)))
    assert np.array_equal(task.image("train", 2)[..., 0], picture(0, 2, (44, 60)))


def test_the_image_folders_may_lie_beside_the_lists(root: Path) -> None:
    for folder in (root / "Images-processed").iterdir():
        folder.rename(root / folder.name)
    assert CovidCt(CovidCtParams(root=root)).splits()["train"].names[0].startswith("CT_NonCOVID/")


def test_files_are_lists_and_images(root: Path) -> None:
    paths = [file.path for file in CovidCt(CovidCtParams(root=root)).files()]
    assert len(paths) == 6 + 28
    assert "Data-split/COVID/testCT_COVID.txt" in paths


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("Data-split", r"expects Data-split/NonCOVID/trainCT_NonCOVID.txt .*it holds Images-processed/"),
        ("Data-split/COVID/valCT_COVID.txt", "expects Data-split/COVID/valCT_COVID.txt"),
        ("Images-processed/CT_COVID", r"expects a folder CT_COVID .*unpack CT_COVID.zip.*it holds Data-split/"),
    ],
)
def test_what_is_missing_is_named(root: Path, tmp_path: Path, missing: str, message: str) -> None:
    (root / missing).rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    with pytest.raises(RequestError, match=message):
        CovidCt(CovidCtParams(root=root)).splits()
