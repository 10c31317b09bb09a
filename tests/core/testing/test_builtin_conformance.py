"""Every built-in plugin keeps its contract, by the checks that strangers' plugins are held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from PIL import Image

import layouts
from ctkit import plugins
from ctkit.contracts import Params
from ctkit.plugins.registry import Entry
from ctkit.testing import (
    check_dataset,
    check_distribution,
    check_method,
    check_protocol,
    check_reducer,
    check_task,
    samples,
)
from phantom_files import write_dicom, write_nifti

Parameters = dict[str, Any]
COUNTS = {"train": 6, "val": 4, "test": 4}


def of_kind(kind: str) -> list[Any]:
    entries = plugins.load().of_kind(kind)
    return [pytest.param(entry, id=entry.name) for entry in entries if entry.distribution == "ctkit-ssl"]


def plugin(entry: Entry, parameters: Parameters) -> tuple[Any, Params]:
    """The class of a plugin and its parameters, as arguments for a check."""
    return entry.load(), entry.load().params_type.model_validate(parameters)


def test_the_distribution_conforms() -> None:
    check_distribution("ctkit-ssl")


# --- reducers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", of_kind("reducer"))
def test_a_reducer_conforms(entry: Entry, tmp_path: Path) -> None:
    network = {"backbone": samples.backbone(tmp_path / "backbone.safetensors"), "size": 32}
    parameters = {"embedding": network, "k-center": network, "semdedup": {**network, "clusters": 3}}
    chains = entry.name == "semdedup"  # as its docstring says, a stand-in may be farther than the threshold
    check_reducer(*plugin(entry, parameters.get(entry.name, {})), within_knob=not chains)


@pytest.mark.parametrize("parameters", [{"algorithm": "phash"}, {"algorithm": "wavelet"}, {"bits": 256}], ids=str)
def test_every_hash_conforms(parameters: Parameters) -> None:
    check_reducer(*plugin(plugins.load().find("reducer", "hash"), parameters))


# --- data sets ----------------------------------------------------------------------------------------------------


def dicom(folder: Path) -> Parameters:
    write_dicom(folder, phantom())
    file = next(folder.rglob("*.dcm"))
    file.write_bytes(file.read_bytes()[:3000])  # a whole header, and some of the pixels
    (file.parent / "notes.txt").write_text("no DICOM")
    return {"root": folder}


def nifti(folder: Path) -> Parameters:
    write_nifti(folder, phantom())
    (folder / "damaged.nii.gz").write_bytes(b"no NIfTI")
    return {"root": folder}


def metaimage(folder: Path) -> Parameters:
    """Headers beside their voxels, and what is no volume."""
    write_nifti(folder, phantom())
    for number, path in enumerate(sorted(folder.glob("*.nii.gz"))):
        image = SimpleITK.ReadImage(str(path))
        SimpleITK.WriteImage(image, str(folder / f"1.2.{number}.mhd"), useCompression=number == 1)
        path.unlink()
    (folder / "damaged.nrrd").write_bytes(b"no NRRD")
    return {"root": folder}


def pet_ct(folder: Path) -> Parameters:
    write_nifti(folder, phantom(), "{patient}/study-1/CT.nii.gz")
    for study in folder.glob("*/*"):
        (study / "SEG.nii.gz").write_bytes(b"no CT")
    return {"root": folder}


def images(folder: Path) -> Parameters:
    rng = np.random.default_rng(0)
    for name in ("a_0", "a_1", "a_2", "a_10", "b_0", "b_1", "b_2"):
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "b_2.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    return {"root": folder}


def phantom() -> Any:
    made, params = plugin(plugins.load().find("dataset", "phantom"), {"patients": 3, "slices": 12, "matrix": 32})
    return made(params)


DATASETS: dict[str, Callable[[Path], Parameters]] = {
    "decathlon": lambda folder: {"root": decathlon(folder)},
    "dicom": dicom,
    "images": images,
    "lidc-idri": dicom,
    "luna16": metaimage,
    "metaimage": metaimage,
    "nifti": nifti,
    "pet-ct": pet_ct,
    "phantom": lambda _: {"patients": 3, "slices": 4, "matrix": 32},
}


@pytest.mark.parametrize("entry", of_kind("dataset"))
def test_a_dataset_conforms(entry: Entry, tmp_path: Path) -> None:
    check_dataset(*plugin(entry, DATASETS[entry.name](tmp_path)))


@pytest.mark.parametrize("entry", [entry for entry in of_kind("dataset") if entry.id in ("lidc-idri", "pet-ct")])
def test_a_published_recipe_conforms(entry: Entry, tmp_path: Path) -> None:
    check_dataset(*plugin(entry, DATASETS[entry.name](tmp_path) | {"recipe": "published"}), volumes=1)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lidc-idri", "lidc-idri"),
        ("dicom", "quirks"),
        ("dicom", "totalsegmentator"),
        ("nifti", "totalsegmentator"),
        ("nifti", "niivue"),
    ],
)
def test_a_dataset_conforms_on_real_scans(name: str, folder: str, real_data: Path) -> None:
    check_dataset(*plugin(plugins.load().find("dataset", name), {"root": real_data / folder}), volumes=1)


# --- methods ------------------------------------------------------------------------------------------------------


HEADS: dict[str, Parameters] = {
    "byol": {"hidden": 32},
    "moco": {"queue": 32},
    "simclr": {"hidden": 32},
    "swav": {"hidden": 32, "prototypes": 8, "local_views": 1, "local_size": 32},
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", [entry for entry in of_kind("method") if entry.id in HEADS])
def test_a_method_conforms(entry: Entry) -> None:
    small = {"backbone": "resnet18", "size": 32, "batch": 8, "projection": 16, **HEADS[entry.name]}
    check_method(*plugin(entry, {**small, "steps": 4, "warmup": 0, "checkpoint_minutes": 0}))


def test_the_method_of_baselines_conforms() -> None:
    untrained = plugins.load().find("method", "untrained")
    check_method(*plugin(untrained, {"backbone": "resnet18"}))


# --- tasks and protocols ------------------------------------------------------------------------------------------


def covid_ct(folder: Path) -> Parameters:
    return {"root": layouts.covid_ct(folder, COUNTS)}


def organsmnist(folder: Path) -> Parameters:
    layouts.medmnist(folder / "organsmnist.npz", 11, {"train": 22, "val": 11, "test": 11})
    return {"root": folder}


def medmnist(folder: Path) -> Parameters:
    layouts.medmnist(folder / "pneumoniamnist.npz", 2, COUNTS)
    return {"root": folder, "name": "pneumoniamnist"}


def decathlon(folder: Path) -> Path:
    layouts.decathlon(folder, cases=4, tests=1)
    return folder


TASKS: dict[str, Callable[[Path], Parameters]] = {
    "brain-hemorrhage": lambda folder: {"root": layouts.hemorrhage_kaggle(folder, 40)},
    "covid-ct": covid_ct,
    "decathlon": lambda folder: {"root": decathlon(folder)},
    "image-folder": lambda folder: {"root": layouts.image_folder(folder, COUNTS)},
    "medmnist": medmnist,
    "organsmnist": organsmnist,
    "phantom-lesions": lambda _: {"train": 4, "val": 2, "test": 2, "size": 32},
    "phantom-organs": lambda _: {"train": 2, "val": 1, "test": 1, "size": 32, "slices": 4},
    "phantom-regions": lambda _: {"train": 2, "val": 1, "test": 1, "size": 32},
}


@pytest.mark.parametrize("entry", of_kind("task"))
def test_a_task_conforms(entry: Entry, tmp_path: Path) -> None:
    check_task(*plugin(entry, TASKS[entry.name](tmp_path)))


@pytest.mark.parametrize("entry", of_kind("protocol"))
def test_a_protocol_conforms(entry: Entry) -> None:
    parameters = {
        "finetune": {"size": 32, "epochs": 2, "frozen_epochs": 1},
        "segment": {"size": 32, "epochs": 1, "batch": 12},
    }
    check_protocol(*plugin(entry, parameters.get(entry.name, {"size": 32})))
