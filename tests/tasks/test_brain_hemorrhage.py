from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctkit.errors import RequestError
from ctkit_tasks.brain_hemorrhage import BrainHemorrhage, BrainHemorrhageParams
from layouts import hemorrhage_kaggle, hemorrhage_paper, picture


def task(root: Path, **params: float) -> BrainHemorrhage:
    return BrainHemorrhage(BrainHemorrhageParams(root=root, **params))


def test_the_papers_layout_has_its_own_test_part(tmp_path: Path) -> None:
    found = task(hemorrhage_paper(tmp_path, {"train": 6, "test": 2}))
    assert {name: np.bincount(split.labels).tolist() for name, split in found.splits().items()} == {
        "train": [6, 6],
        "test": [2, 2],
    }
    assert (found.classes, found.positive_class) == (("normal", "hemorrhage"), "hemorrhage")
    assert np.array_equal(found.image("train", 6), picture(1, 0))


def test_kaggles_table_labels_images_by_ids_that_are_not_padded(tmp_path: Path) -> None:
    found = task(hemorrhage_kaggle(tmp_path, 20))
    splits = found.splits()
    assert {name: np.bincount(split.labels).tolist() for name, split in splits.items()} == {
        "train": [8, 8],
        "test": [2, 2],
    }
    for name, split in splits.items():
        for number, (file, label) in enumerate(zip(split.names, split.labels, strict=True)):
            identity = int(Path(file).stem)
            assert label == (identity < 10)
            assert np.array_equal(found.image(name, number)[..., 0], picture(int(label), identity))
    assert sorted([*splits["train"].names, *splits["test"].names]) == [f"head_ct/{n:03d}.png" for n in range(20)]
    assert "labels.csv" in {file.path for file in found.files()}


def test_kaggles_test_part_is_drawn_by_share_and_seed(tmp_path: Path) -> None:
    root = hemorrhage_kaggle(tmp_path, 20)
    assert task(root).splits()["test"].names == task(root).splits()["test"].names
    assert task(root, split_seed=1).splits()["test"].names != task(root).splits()["test"].names
    assert len(task(root, test_share=0.5).splits()["test"].names) == 10


def test_kaggles_archive_with_a_folder_in_a_folder_is_the_same_set(tmp_path: Path) -> None:
    root = hemorrhage_kaggle(tmp_path, 10)
    (root / "head_ct").rename(root / "inner")
    (root / "head_ct").mkdir()
    (root / "inner").rename(root / "head_ct" / "head_ct")
    assert len(task(root).splits()["train"].names) == 8


@pytest.mark.parametrize(
    "table",
    ["id,label\n0,1\n", "id, hemorrhage\n0,yes\n", "id, hemorrhage\na.png,1\n"],
    ids=["no such column", "no number", "no id"],
)
def test_a_table_that_says_something_else_is_refused(tmp_path: Path, table: str) -> None:
    root = hemorrhage_kaggle(tmp_path, 4)
    (root / "labels.csv").write_text(table)
    with pytest.raises(RequestError, match=r"columns id \(a number\) and hemorrhage \(0 or 1\)"):
        task(root).splits()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_a_table_is_read_however_it_is_encoded(tmp_path: Path, encoding: str) -> None:
    root = hemorrhage_kaggle(tmp_path, 10)
    table = (root / "labels.csv").read_text().replace("hemorrhage\n", "hemorrhage, größer\n").replace("\n", "\r\n")
    (root / "labels.csv").write_text(table, encoding=encoding, newline="")
    assert len(task(root).splits()["train"].names) == 8


def test_labels_that_contradict_each_other_are_an_error_with_both_lines(tmp_path: Path) -> None:
    root = hemorrhage_kaggle(tmp_path, 6)
    (root / "labels.csv").write_text((root / "labels.csv").read_text() + "001,1\n1,0\n")
    with pytest.raises(RequestError, match="labels.csv: lines 3 and 9 give one image different labels"):
        list(task(root).check(None))


def test_a_table_that_is_doubled_counts_once_and_is_told(tmp_path: Path) -> None:
    root = hemorrhage_kaggle(tmp_path, 10)
    once = task(root).splits()
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join([*lines, *lines[1:]]))
    found = task(root)
    assert found.splits()["train"].names == once["train"].names
    assert found.notes == ("10 images are listed again in the set; each counts once",)


@pytest.mark.parametrize("seed", range(6))
def test_near_duplicates_are_drawn_to_one_side(tmp_path: Path, seed: int) -> None:
    """Of Kaggle's set 061 and 011 show one picture, and were put on both sides."""
    root = hemorrhage_kaggle(tmp_path, 40)
    for number in range(10):
        Image.open(root / "head_ct" / f"{number:03d}.png").convert("RGB").resize((60, 50)).save(
            root / "head_ct" / f"{number + 30:03d}.png"
        )
    found = task(root, split_seed=seed)
    sides = {Path(name).stem: side for side, split in found.splits().items() for name in split.names}
    assert all(sides[f"{number:03d}"] == sides[f"{number + 30:03d}"] for number in range(10))
    assert len(found.splits()["test"].names) >= 5


def test_a_unit_that_is_large_is_told(tmp_path: Path) -> None:
    root = hemorrhage_kaggle(tmp_path, 20)
    for number in range(5):
        Image.fromarray(picture(1, 0)).save(root / "head_ct" / f"{number:03d}.png")
    assert [note.partition(" (")[0] for note in task(root).notes] == ["the set: near-duplicates"]
    assert "bind up to 25% of the images into one unit" in task(root).notes[0]


def test_another_folder_is_told_both_layouts(tmp_path: Path) -> None:
    (tmp_path / "brains").mkdir()
    with pytest.raises(RequestError, match=r"head_ct/ and labels.csv, or a_without/ and b_with/ .*it contains brains/"):
        task(tmp_path).splits()
