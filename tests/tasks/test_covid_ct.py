from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctkit.errors import RequestError
from ctkit_tasks.covid_ct import CovidCt, CovidCtParams
from layouts import covid_ct, picture, save


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
    assert task.notes == ("1 missing or unreadable images skipped in test",)


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


@pytest.mark.parametrize(
    "moves",
    [
        {"Images-processed": "Images"},
        {"Images-processed": "images", "Data-split": "data_split", "data_split/NonCOVID": "data_split/Non-COVID"},
        {"Images-processed/CT_COVID": "CT-Covid", "Images-processed/CT_NonCOVID": "noncovid", "Data-split": "splits"},
        {
            "Images-processed/CT_COVID": "x/CT_COVID/CT_COVID",
            "Images-processed/CT_NonCOVID": "x/CT_NonCOVID/CT_NonCOVID",
        },
        {"Images-processed": "COVID-CT-master/Images", "Data-split": "COVID-CT-master/Data-split"},
    ],
    ids=["Images", "other marks", "beside the lists", "folders in folders", "unpacked from GitHub"],
)
def test_other_copies_are_read_as_they_lie(root: Path, moves: dict[str, str]) -> None:
    official = CovidCt(CovidCtParams(root=root)).splits()
    for place, other in moves.items():
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / place).rename(root / other)
    (root / "__MACOSX" / "CT_COVID").mkdir(parents=True)
    save(root / "__MACOSX" / "CT_COVID" / "a.png", picture(0, 0))
    found = CovidCt(CovidCtParams(root=root)).splits()
    assert {name: split.labels.tolist() for name, split in found.items()} == {
        name: split.labels.tolist() for name, split in official.items()
    }
    assert all(
        [Path(name).name for name in found[split].names] == [Path(name).name for name in official[split].names]
        for split in official
    )


@pytest.mark.parametrize("lists", ["flat", "no CT"])
def test_lists_may_lie_in_one_folder(root: Path, lists: str) -> None:
    for path in sorted((root / "Data-split").rglob("*.txt")):
        path.rename(root / (path.name if lists == "flat" else path.name.replace("CT_", "_")))
    assert len(CovidCt(CovidCtParams(root=root)).splits()["train"].names) == 16


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_lists_are_read_however_they_are_encoded(root: Path, encoding: str) -> None:
    table = root / "Data-split" / "COVID" / "testCT_COVID.txt"
    names = table.read_text().splitlines()[:4]
    (root / "Images-processed" / "CT_COVID" / names[0]).rename(root / "Images-processed" / "CT_COVID" / "Grün.png")
    table.write_text("\r\n".join(["Grün.png", *names[1:], names[1]]), encoding=encoding)
    found = CovidCt(CovidCtParams(root=root))
    assert found.splits()["test"].names[4:] == tuple(
        f"Images-processed/CT_COVID/{name}" for name in ("Grün.png", *names[1:])
    )
    assert found.notes == ("1 images are listed again in test; each counts once",)


def test_an_image_of_two_lists_is_refused_before_a_run(root: Path) -> None:
    train, test = (root / "Data-split" / "COVID" / f"{split}CT_COVID.txt" for split in ("train", "test"))
    test.write_text(test.read_text() + train.read_text().splitlines()[0])
    (told,) = CovidCt(CovidCtParams(root=root)).check(None)
    assert told == f"1 images of {root} are listed in more than one of train, val, test"


def test_files_are_lists_and_images(root: Path) -> None:
    paths = [file.path for file in CovidCt(CovidCtParams(root=root)).files()]
    assert len(paths) == 6 + 28
    assert "Data-split/COVID/testCT_COVID.txt" in paths


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("Data-split", r"expects Data-split/NonCOVID/trainCT_NonCOVID.txt .*it contains Images-processed/"),
        ("Data-split/COVID/valCT_COVID.txt", "expects Data-split/COVID/valCT_COVID.txt"),
        ("Images-processed/CT_COVID", r"expects a folder CT_COVID .*unpack CT_COVID.zip.*it contains Data-split/"),
    ],
)
def test_what_is_missing_is_named(root: Path, tmp_path: Path, missing: str, message: str) -> None:
    (root / missing).rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    with pytest.raises(RequestError, match=message):
        CovidCt(CovidCtParams(root=root)).splits()
