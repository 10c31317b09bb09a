from __future__ import annotations

import dataclasses
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ctkit.errors import DataError, RequestError
from ctkit_downloads.medmnist import SETS
from ctkit_tasks.medmnist import MedMnist, MedMnistParams, OrganSMnist, OrganSMnistParams
from layouts import medmnist

COUNTS = {"train": 22, "val": 11, "test": 12}


def test_organsmnist_is_read_from_its_folder(tmp_path: Path) -> None:
    medmnist(tmp_path / "organsmnist.npz", 11, COUNTS)
    task = OrganSMnist(OrganSMnistParams(root=tmp_path))
    assert {name: len(split.names) for name, split in task.splits().items()} == COUNTS
    assert task.splits()["val"].labels.tolist() == list(range(11))
    assert (len(task.classes), task.classes[6], task.positive_class) == (11, "liver", None)
    assert (task.image("test", 3).shape, task.image("test", 3).dtype) == ((28, 28), np.uint8)
    assert [file.path for file in task.files()] == ["organsmnist.npz"]
    assert task.root == tmp_path


@pytest.mark.parametrize("size", [64, 224])
def test_larger_sizes_are_other_files(tmp_path: Path, size: int) -> None:
    medmnist(tmp_path / f"organsmnist_{size}.npz", 11, COUNTS, size)
    task = OrganSMnist(OrganSMnistParams(root=tmp_path, size=size))
    assert task.image("train", 0).shape == (size, size)
    with pytest.raises(RequestError, match=rf"expects organsmnist.npz in .*it contains organsmnist_{size}.npz"):
        OrganSMnist(OrganSMnistParams(root=tmp_path)).splits()


def test_a_file_of_any_name_may_be_given(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "mine.npz", 2, COUNTS)
    task = MedMnist(MedMnistParams(name="pneumoniamnist", root=path))
    assert (task.classes, task.positive_class) == (("normal", "pneumonia"), "pneumonia")
    assert (task.root, [file.path for file in task.files()]) == (tmp_path, ["mine.npz"])


def test_colour_images_keep_their_channels(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "bloodmnist.npz", 8, COUNTS, colour=True)
    assert MedMnist(MedMnistParams(name="bloodmnist", root=path)).image("train", 0).shape == (28, 28, 3)


def test_the_positive_class_is_the_disease_whatever_its_number() -> None:
    assert MedMnist(MedMnistParams(name="breastmnist")).positive_class == "malignant"
    assert all(len(set(classes)) == len(classes) for facts in SETS.values() for classes in [facts.classes])


@pytest.mark.parametrize(
    ("name", "why"),
    [("chestmnist", "several labels per image"), ("organmnist3d", "it has volumes"), ("organsmnst", "did you mean")],
)
def test_sets_without_one_label_for_each_flat_image_are_refused(name: str, why: str) -> None:
    with pytest.raises(ValidationError, match=rf"no 2-D set of MedMNIST .* called '{name}'; .*{why}"):
        MedMnistParams(name=name)


def test_a_file_of_another_set_or_size_is_refused(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "a.npz", 11, COUNTS, 64)
    with pytest.raises(RequestError, match=r"8-bit images of 28 pixels .*set size to that of the file"):
        OrganSMnist(OrganSMnistParams(root=path)).splits()
    with pytest.raises(RequestError, match=r"one label of 8 classes .* from 0 to 10: is it another set"):
        MedMnist(MedMnistParams(name="bloodmnist", root=path, size=64)).splits()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "organsmnist.npz", 11, COUNTS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a complete MedMNIST file"):
        OrganSMnist(OrganSMnistParams(root=path)).splits()


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "organsmnist.npz"
    np.savez(path, train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle"):
        OrganSMnist(OrganSMnistParams(root=path)).splits()


def test_without_a_root_the_file_lies_where_the_package_medmnist_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    task = OrganSMnist(OrganSMnistParams(size=64))
    with pytest.raises(RequestError, match=r"organsmnist_64.npz in .*ctkit get organsmnist --size 64 --out DIR"):
        task.splits()
    (tmp_path / ".medmnist").mkdir()
    medmnist(tmp_path / ".medmnist/organsmnist_64.npz", 11, COUNTS, 64)
    task = OrganSMnist(OrganSMnistParams(size=64))
    assert [file.path for file in task.files()] == ["organsmnist_64.npz"]
    assert len(task.splits()["train"].names) == 22


def test_another_file_than_the_published_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = medmnist(tmp_path / "organsmnist.npz", 11, COUNTS)
    published = dataclasses.replace(SETS["organsmnist"], images=tuple(COUNTS.values()))
    assert OrganSMnist(OrganSMnistParams(root=path)).splits()
    assert "organsmnist: not the official file of MedMNIST: train, val and test have" in caplog.text
    caplog.clear()
    monkeypatch.setitem(SETS, "organsmnist", published)
    assert OrganSMnist(OrganSMnistParams(root=path)).splits()
    assert f"its MD5 is {md5(path.read_bytes()).hexdigest()}, where {published.md5[0]} is published" in caplog.text
    caplog.clear()
    right = dataclasses.replace(published, md5=(md5(path.read_bytes()).hexdigest(), *published.md5[1:]))
    monkeypatch.setitem(SETS, "organsmnist", right)
    assert OrganSMnist(OrganSMnistParams(root=path)).splits()
    assert caplog.text == ""
