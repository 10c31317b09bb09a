"""What a task's folder lacks is said before a run starts, all of it at once, without decoding an image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctkit.contracts import Task
from ctkit.errors import CtkitError
from ctkit_tasks import image_files
from ctkit_tasks.brain_hemorrhage import BrainHemorrhage, BrainHemorrhageParams
from ctkit_tasks.covid_ct import CovidCt, CovidCtParams
from ctkit_tasks.image_folder import ImageFolder, ImageFolderParams
from ctkit_tasks.medmnist import MedMnist, MedMnistParams
from layouts import covid_ct, hemorrhage_kaggle, hemorrhage_paper, image_folder, medmnist

COUNTS = {"train": 6, "val": 2, "test": 2}
Damage = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("decoded", "look_at"):
        monkeypatch.setattr(image_files, name, lambda path: pytest.fail(f"{path} was decoded"))


def remove(name: str) -> Damage:
    return lambda root: shutil.rmtree(root / name)


def empty(name: str) -> Damage:
    def _empty(root: Path) -> None:
        for path in (root / name).rglob("*"):
            if path.is_file():
                path.unlink()

    return _empty


def write(name: str, data: bytes) -> Damage:
    return lambda root: (root / name).write_bytes(data)


def covid(root: Path, **_: Any) -> Task[Any]:
    return CovidCt(CovidCtParams(root=covid_ct(root, COUNTS)))


def folders(root: Path, **params: Any) -> Task[Any]:
    return ImageFolder(ImageFolderParams(root=image_folder(root, COUNTS), **params))


def paper(root: Path, **_: Any) -> Task[Any]:
    return BrainHemorrhage(BrainHemorrhageParams(root=hemorrhage_paper(root, {"train": 4, "test": 2})))


def kaggle(root: Path, **_: Any) -> Task[Any]:
    return BrainHemorrhage(BrainHemorrhageParams(root=hemorrhage_kaggle(root, 8)))


def organs(root: Path, **_: Any) -> Task[Any]:
    medmnist(root / "organsmnist.npz", 11, {"train": 22, "val": 11, "test": 12})
    return MedMnist(MedMnistParams(name="organsmnist", root=root))


def nothing(root: Path) -> None:
    """No damage."""


@pytest.mark.parametrize("build", [covid, folders, paper, kaggle, organs], ids=lambda build: build.__name__)
def test_a_whole_set_lacks_nothing(tmp_path: Path, build: Callable[..., Task[Any]]) -> None:
    assert list(build(tmp_path).check("cpu")) == []


@pytest.mark.parametrize(
    ("build", "damage", "said"),
    [
        (covid, remove("Images-processed"), ["a folder CT_NonCOVID in", "a folder CT_COVID in"]),
        (covid, remove("Images-processed/CT_COVID"), ["a folder CT_COVID in {root} or its Images-processed"]),
        (covid, remove("Data-split/COVID"), [" and ".join(f"Data-split/COVID/{s}CT_COVID.txt" for s in COUNTS)]),
        (covid, empty("Images-processed"), [f"none of the {n} images of {s} is in {{root}}" for s, n in
                                            (("train", 12), ("val", 4), ("test", 5))]),
        (covid, write("Data-split/COVID/valCT_COVID.txt", b"\xff\xfe\x00"), ["cannot read the table {root}"]),
        (covid, write("Data-split/COVID/trainCT_COVID.txt", b""), ["images of train in {root} are all of one class"]),
        (folders, remove("test"), ["expects train/<class>/ and test/<class>/"]),
        (folders, remove("train/lesion"), ["images of train in {root} are all of one class"]),
        (folders, empty("test"), ["none of the 0 images of test is in {root}"]),
        (paper, remove("train/b_with"), ["expects head_ct/ and labels.csv, or a_without/ and b_with/"]),
        (kaggle, write("labels.csv", b"name,sick\na,1\n"), ["expects columns id (a number) and hemorrhage (0 or 1)"]),
        (kaggle, write("labels.csv", b"\xff\xfe\x00"), ["cannot read the table {root}/labels.csv: it is not UTF-8"]),
        (organs, write("organsmnist.npz", b"PK"), ["{root}/organsmnist.npz is not a complete MedMNIST file"]),
        (organs, lambda root: (root / "organsmnist.npz").rename(root / "o"), ["expects organsmnist.npz in"]),
    ],
)  # fmt: skip
def test_what_a_set_lacks_is_said(
    tmp_path: Path, build: Callable[..., Task[Any]], damage: Damage, said: list[str]
) -> None:
    task = build(tmp_path)
    damage(tmp_path)
    found = faults(task)
    assert len(found) == len(said)
    for fault, part in zip(found, said, strict=True):
        assert part.format(root=tmp_path) in fault


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"positive": "leson"}, "no class is called 'leson'; did you mean 'lesion'"),
        ({"patient": "^(case)"}, "finds none in"),
    ],
)
def test_parameters_of_an_image_folder_that_do_not_fit_are_said(
    tmp_path: Path, params: dict[str, str], said: str
) -> None:
    (fault,) = faults(folders(tmp_path, **params))
    assert said in fault


def test_another_set_of_medmnist_is_found_by_its_labels_and_shapes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = medmnist(tmp_path / "organsmnist.npz", 11, {"train": 22, "val": 11, "test": 12})
    read: list[str] = []
    get = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda self, key: read.append(key) or get(self, key))
    (fault,) = faults(MedMnist(MedMnistParams(name="pneumoniamnist", root=path)))
    assert f"one label of 2 classes for each image in {path}" in fault
    (fault,) = faults(MedMnist(MedMnistParams(name="organsmnist", root=path, size=64)))
    assert "8-bit images of 64 pixels" in fault
    assert set(read) == {"train_labels", "val_labels", "test_labels"}


def test_a_set_that_is_not_there_is_said_with_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (fault,) = faults(MedMnist(MedMnistParams(name="organsmnist")))
    assert fault.startswith(f"expects organsmnist.npz in {tmp_path / '.medmnist'}")
    assert "ctkit get organsmnist --out DIR downloads it" in fault
    (tmp_path / ".medmnist").mkdir()
    medmnist(tmp_path / ".medmnist/organsmnist.npz", 11, {"train": 22, "val": 11, "test": 12})
    assert faults(MedMnist(MedMnistParams(name="organsmnist"))) == []


def faults(task: Task[Any]) -> list[str]:
    """What a task lacks; what it raises is one thing more, as in a run."""
    found: list[str] = []
    try:
        found.extend(task.check("cpu"))
    except CtkitError as error:
        found.append(str(error))
    return found
