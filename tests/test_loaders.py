"""Files from outside, damaged at random or made odd on purpose: a loader reads one, or says why not by a ``DataError``.

DICOM, NIfTI, MetaImage, NRRD and pictures are damaged in ``tests/datasets``.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from ctkit.errors import CtkitError, DataError
from ctkit_datasets import lidc_findings
from ctkit_datasets.nifti_layouts import dataset_json
from ctkit_datasets.nifti_masks import _label_names
from ctkit_tasks.medmnist import MedMnist, MedMnistParams
from ctkit_torch.backbones import load_backbone
from ctkit_torch.checkpoints import Checkpoints
from damage import mutate
from layouts import medmnist

COUNTS = {"train": 6, "val": 4, "test": 4}
XML = b"""<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage><SeriesInstanceUid>1.2</SeriesInstanceUid>
<readingSession><unblindedReadNodule><roi><inclusion>TRUE</inclusion><imageSOP_UID>1.3</imageSOP_UID></roi>
</unblindedReadNodule></readingSession></LidcReadMessage>"""
LABELS = {"labels": {"background": 0, "liver": 1, "2": "spleen", "kidneys": [3, 4]}, "channel_names": {"0": "CT"}}


def read_medmnist(path: Path) -> None:
    task = MedMnist(MedMnistParams(name="pneumoniamnist", root=path))
    list(task.check(None))
    task.splits()


def read_xml(path: Path) -> None:
    found = lidc_findings._reading(path, "1.2")
    if found is not None:
        lidc_findings._marked(found, "unblindedReadNodule", "roi")


def read_layout(path: Path) -> None:
    assert isinstance(dataset_json(path.parent), dict)
    _label_names(path.parent)


def tensors() -> dict[str, torch.Tensor]:
    return {"conv1.weight": torch.rand(8, 3, 3, 3), "layer1.0.bn1.num_batches_tracked": torch.tensor(3)}


def of_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": tensors(), "epoch": 3}, buffer)
    return buffer.getvalue()


def of_safetensors(**metadata: str) -> bytes:
    return save(tensors(), metadata)


def of_medmnist(folder: Path) -> bytes:
    return medmnist(folder / "seed.npz", 2, COUNTS).read_bytes()


LOADERS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], bytes]]] = {
    "medmnist": ("a.npz", read_medmnist, of_medmnist),
    "torch": ("a.pth", load_backbone, lambda folder: of_torch()),
    "safetensors": ("a.safetensors", load_backbone, lambda folder: of_safetensors()),
    "backbone": (
        "a.safetensors",
        load_backbone,
        lambda folder: of_safetensors(architecture="resnet18", mean="0.2", std="0.1"),
    ),
    "checkpoint": ("step-1.ckpt", lambda path: Checkpoints(path.parent).newest(), lambda folder: of_torch()),
    "xml": ("a.xml", read_xml, lambda folder: XML),
    "dataset.json": ("dataset.json", read_layout, lambda folder: json.dumps(LABELS).encode()),
}


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.filterwarnings("ignore")  # of damaged pickles
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, loader: str, count: int) -> None:
    name, read, seed = LOADERS[loader]
    content, draw = seed(tmp_path), random.Random(count)
    path = tmp_path / "damaged" / name
    path.parent.mkdir()
    refused = 0
    for _ in range(count):
        path.write_bytes(mutate(content, draw, 0, len(content)))
        try:
            read(path)
        except CtkitError:
            refused += 1
    assert refused or loader in ("checkpoint", "xml", "dataset.json")  # which have another way to say so


def npz(path: Path, **changes: Any) -> Path:
    arrays = dict(np.load(medmnist(path, 2, COUNTS), allow_pickle=False))
    np.savez(path, **(arrays | changes))  # type: ignore[arg-type]
    return path


def claiming(path: Path, shape: tuple[int, ...]) -> Path:
    """Let the header of the training images claim a shape."""
    npz(path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    members["train_images.npy"] = header.getvalue()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    return path


def of_version(path: Path, version: int) -> Path:
    """Let the members need a later version of zip."""
    data = bytearray(npz(path).read_bytes())
    place = data.find(b"PK\1\2")
    while place >= 0:
        data[place + 6 : place + 8] = struct.pack("<H", version)
        place = data.find(b"PK\1\2", place + 4)
    path.write_bytes(data)
    return path


STRUCTURED = np.zeros((6, 1), [("name", "U8"), ("label", "i4")])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: npz(path, train_labels=STRUCTURED), id="structured labels"),
        pytest.param(lambda path: npz(path, train_labels=np.full((6, 1), "normal")), id="labels in words"),
        pytest.param(lambda path: npz(path, train_labels=np.full((6, 1), 1 + 2j)), id="complex labels"),
        pytest.param(lambda path: claiming(path, (1 << 34, 28, 28)), id="12 TiB of images"),
        pytest.param(lambda path: claiming(path, (1 << 62, 28, 28)), id="more images than numbers"),
        pytest.param(lambda path: of_version(path, 99), id="a later zip"),
    ],
)
def test_an_odd_file_of_medmnist_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "odd.npz")
    with pytest.raises(CtkitError, match=r"odd\.npz"):
        read_medmnist(path)
    with pytest.raises(CtkitError, match=r"odd\.npz"):
        MedMnist(MedMnistParams(name="pneumoniamnist", root=path)).splits()


def cycle() -> dict[str, Any]:
    whole: dict[str, Any] = {}
    whole["whole"] = whole
    return whole


@pytest.mark.filterwarnings("ignore")  # of types that torch calls new
@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"conv1.weight": torch.ones(64, 3, 7, 7).to(torch.float8_e4m3fn)}, id="eight bits"),
        pytest.param({"conv1.weight": torch.ones(64, 3, 7, 7, device="meta")}, id="no values"),
        pytest.param({"conv1.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, id="a terabyte of one value"),
        pytest.param({"conv1.weight": torch.ones(3, dtype=torch.complex64)}, id="complex"),
        pytest.param({"conv1.weight": torch.ones(3, 3).to_sparse()}, id="sparse"),
        pytest.param({1: {2: torch.ones(3)}}, id="names that are numbers"),
        pytest.param([torch.ones(3)], id="a list"),
        pytest.param(cycle(), id="a dictionary that holds itself"),
    ],
)
def test_odd_tensors_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(DataError, match=r"odd\.pth"):
        load_backbone(tmp_path / "odd.pth")


@pytest.mark.parametrize("encoding", ["utf-7", "ebcdic-cp-us", "shift_jis", "no-such"])
def test_xml_in_an_odd_encoding_is_no_reading(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.xml").write_bytes(XML.replace(b"UTF-8", encoding.encode()))
    assert lidc_findings._reading(tmp_path / "a.xml", "1.2") is None


def test_xml_of_16_bits_with_entities_that_grow_is_no_reading(tmp_path: Path) -> None:
    entities = '<!DOCTYPE a [<!ENTITY b "bbbb">]>'
    text = XML.decode().replace("UTF-8", "UTF-16").replace("?>", f"?>{entities}", 1)
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    assert lidc_findings._reading(tmp_path / "a.xml", "1.2") is None


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"labels": {"' + "1" * 5000 + '": "liver"}}', '"\\ud800"', "\ufeff{}"]
)
def test_an_odd_dataset_json_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8")
    read_layout(tmp_path / "dataset.json")
    assert not _label_names(tmp_path)
