"""A name in every field and path of the data: no output shows it but the files that have to name sources."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from ctkit import files
from ctkit.plugins.registry import Registry

from .conftest import ct_slice

Command = Callable[..., tuple[int, str, str]]
NAME, DATE, NUMBER = "Quertz", "19450312", "4711-0815"
PRIVATE = re.compile(rb"quertz|19450312|4711-0815", re.IGNORECASE)
FOLDER = f"{NAME}^Jane {DATE}"
#: Files of a run, and of an export, that have to name sources or images, and the columns that do so.
NAMING = {
    "selection.csv": {"source"}, "skipped.csv": {"source"}, "leaks.csv": {"name", "other_name"},
    "repeat-0-labels-1.csv": {"name", "patient"},
}  # fmt: skip
TEXTS = {"CS", "SH", "LO", "ST", "LT", "UT", "UC", "AE", "PN", "UR"}
READ = {  # without which a slice is none of CT, as it must be here so that its other fields are read
    "SpecificCharacterSet", "Modality", "ImageType", "PhotometricInterpretation", "RescaleType", "PatientOrientation",
}  # fmt: skip
ALONE = {  # what one of these holds costs the file, or is shown as another
    "Modality": b"QUERTZ", "PhotometricInterpretation": b"QUERTZ", "RescaleType": b"QUERTZ", "ImageType": b"QUERTZ",
    "SOPClassUID": b"1.2.19450312", "ConvolutionKernel": b"QUERTZ", "Manufacturer": b"QUERTZ",
    "PixelSpacing": b"QUERTZ",
    "ImagePositionPatient": b"QUERTZ", "RescaleSlope": b"QUERTZ", "InstanceNumber": b"QUERTZ", "KVP": b"QUERTZ",
    "SliceThickness": b"19450312", "NumberOfFrames": b"19450312", "ImageOrientationPatient": b"QUERTZ",
}  # fmt: skip
PIPELINE = """
[run]
name = "private"
seed = 1
[compute]
device = "cpu"
workers = 1
[dataset]
use = "dicom"
root = "scans"
min_slices = 1
[[reduce]]
use = "hash"
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 32
steps = 2
batch = 2
[[task]]
use = "image-folder"
root = "tasks"
protocol = { use = "knn", size = 32 }
"""


def with_names(slice_: Dataset) -> Dataset:
    """Write a name, a date or a number into every field of text that the standard has."""
    with pydicom.config.disable_value_validation():
        for tag, (kind, _, _, _, keyword) in DicomDictionary.items():
            if tag >> 16 in (0, 2, 4, 6) or not keyword or keyword in READ:
                continue
            if kind in TEXTS:
                slice_.add_new(tag, kind, f"{NAME}^JANE" if kind == "PN" else f"{NAME} {NUMBER}"[:16])
            elif kind in ("DA", "DT"):
                slice_.add_new(tag, kind, DATE)
            elif kind == "UI" and keyword not in ("SOPClassUID", "SOPInstanceUID"):
                slice_.add_new(tag, kind, f"1.2.{DATE}.1")
    return slice_


def write_dicom(root: Path) -> None:
    root.mkdir(parents=True)
    with pydicom.config.disable_value_validation():
        for z in range(6):
            with_names(ct_slice(float(z))).save_as(root / f"{NAME}-{z}.dcm", enforce_file_format=True)
        for number, (keyword, value) in enumerate(ALONE.items()):
            slice_ = ct_slice(0.0, SeriesInstanceUID=f"1.{number}", StudyInstanceUID=f"1.2.{DATE}")
            tag, raw = Tag(tag_for_keyword(keyword) or 0), value + b" " * (len(value) % 2)
            slice_[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)
            slice_.save_as(root / f"{keyword}-{NAME}.dcm", enforce_file_format=True)
    syntax = (root / f"{NAME}-0.dcm").read_bytes()
    (root / "syntax.dcm").write_bytes(syntax.replace(b"1.2.840.10008.1.2.1\0", f"1.2.3.{DATE}.123".encode()[:20], 1))
    (root / f"{NAME}.txt").write_text(NAME)


def scan_values() -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(-1000, 1000, (12, 12, 6)).astype(np.int16)


def write_nifti(root: Path) -> None:
    root.mkdir(parents=True)
    image = nibabel.Nifti1Image(scan_values(), np.eye(4))  # type: ignore[no-untyped-call]
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = NAME  # type: ignore[index]
    image.header.extensions.append(  # type: ignore[attr-defined]
        nibabel.nifti1.Nifti1Extension("comment", NAME.encode())  # type: ignore[no-untyped-call]
    )
    data = bytearray(image.to_bytes())  # type: ignore[no-untyped-call]
    (root / f"{NAME}.nii.gz").write_bytes(gzip.compress(data))
    mask = nibabel.Nifti1Image((scan_values() > 900).astype(np.uint8), np.eye(4))  # type: ignore[no-untyped-call]
    (root / f"{NAME}_{NAME}jane_seg.nii").write_bytes(mask.to_bytes())  # type: ignore[no-untyped-call]
    (root / f"{NAME}-2.nii").write_bytes(data[:300])
    data[344:348] = NAME.encode()[:4]
    (root / f"{NAME}-3.nii").write_bytes(data)
    (root / "dataset.json").write_text(json.dumps({"name": NAME, "description": NAME, "channel_names": {"0": NAME}}))


def write_text_headers(root: Path) -> None:
    root.mkdir(parents=True)
    meta = f"ObjectType = Image\nComment = {NAME}\nNDims = 3\nDimSize = 12 12 6\nAnatomicalOrientation = {NAME}\n"
    nrrd = f"NRRD0004\n# {NAME}\ncontent: {NAME}\nkey:={NAME}\ntype: short\ndimension: 3\nsizes: 12 12 6\n"
    for number, line in enumerate(("", f"ElementSpacing = {NAME}\n", f"HeaderSize = {NAME}\n")):
        text = f"{meta}{line}ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        (root / f"{NAME}-{number}.mha").write_bytes(text.encode() + scan_values().tobytes())
    for number, line in enumerate(("", f"space: {NAME}\n", f"spacings: {NAME} 1 1\n", f"encoding: {NAME}\n")):
        text = f"{nrrd}{line}{'' if 'encoding' in line else 'encoding: raw'}\nendian: little\n\n"
        (root / f"{NAME}-{number}.nrrd").write_bytes(text.encode() + scan_values().tobytes())
    (root / f"{NAME}.mhd").write_text(f"{meta}ElementType = {NAME}\nElementDataFile = {NAME}.raw\n")


def write_pictures(root: Path, count: int = 5) -> None:
    root.mkdir(parents=True)
    for number in range(count):
        text = PngImagePlugin.PngInfo()
        text.add_text(NAME, NAME)
        pixels = np.random.default_rng([number, *root.as_posix().encode()]).integers(0, 256, (32, 32))
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{NAME}_{number}.png", pnginfo=text)
    (root / f"{NAME}_9.png").write_bytes(f"\x89PNG {NAME}".encode())


def contents(path: Path) -> Iterator[bytes]:
    """Yield all that a file shows, unpacked where it is packed."""
    data = path.read_bytes()
    if path.name in NAMING:
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        yield repr([{key: row[key] for key in row if key not in NAMING[path.name]} for row in rows]).encode()
        return
    yield data
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as packed:
            yield from (name.encode() + packed.read(name) for name in packed.namelist())


def assert_private(folder: Path, *said: str) -> None:
    """No file below a folder, and nothing that was said, holds anything private."""
    for text in said:
        assert not PRIVATE.search(text.encode()), text
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    assert found
    for path in found:
        assert not PRIVATE.search(str(path.relative_to(folder)).encode()), path
        for content in contents(path):
            match = PRIVATE.search(content)
            assert not match, (path, content[max(0, match.start() - 200) : match.end() + 100])


def test_a_run_on_dicom_and_all_that_is_made_of_it_show_nothing_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    heard: list[str] = []
    notify = Registry.notify

    def heard_by_trackers(self: Registry, hook: str, **values: Any) -> None:
        heard.append(repr((hook, values)))
        notify(self, hook, **values)

    monkeypatch.setattr(Registry, "notify", heard_by_trackers)
    write_dicom(tmp_path / "scans" / FOLDER)
    for split, kind in ((split, kind) for split in ("train", "val", "test") for kind in ("ill", "well")):
        write_pictures(tmp_path / "tasks" / split / kind / FOLDER)
    (tmp_path / "p.toml").write_text(PIPELINE)
    run = "runs/private"
    said = []
    for words in (
        ["validate", "p.toml"], ["run", "p.toml", "--dry-run"], ["run", "p.toml"], ["run", "p.toml", "-v"],
        ["run", "p.toml", "--json"], ["report", run], ["explain", run, "hash"], ["curve", run, "hash"],
        ["compare", run], ["runs"], ["clean", "runs", "--dry-run"],
        ["export", run, "--format", "torchvision", "--out", "exported"],
        ["export-slices", run, "hash", "--format", "png", "--out", "slices"],
    ):  # fmt: skip
        code, out, err = command(*words)
        assert code == 0, (words, out, err)
        said += [out, err]
    assert_private(tmp_path / run, *heard, *said)
    for folder in ("exported", "slices"):
        assert_private(tmp_path / folder)
    rows = {row["source"]: row["reason"] for row in files.read_csv(tmp_path / run / "skipped.csv")}
    assert rows[f"{FOLDER}/Modality-{NAME}.dcm"] == "modality other"
    assert (tmp_path / run / "arms" / "hash" / "explain.html").exists()
    assert list((tmp_path / run / "tensorboard").rglob("events.*"))
    assert heard


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
def test_trackers_keep_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """With the real MLflow and W&B, where they are installed."""
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTKIT_TRACKERS", "mlflow,wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write_dicom(tmp_path / "scans" / FOLDER)
    for split, kind in ((split, kind) for split in ("train", "val", "test") for kind in ("ill", "well")):
        write_pictures(tmp_path / "tasks" / split / kind / FOLDER)
    (tmp_path / "p.toml").write_text(PIPELINE)
    code, out, err = command("run", "p.toml")
    assert code == 0, err
    assert list((tmp_path / "store").rglob("report.html"))
    assert list((tmp_path / "runs/private/wandb").rglob("*.wandb"))
    assert_private(tmp_path / "store", out, err)
    assert_private(tmp_path / "runs/private")


def test_the_readers_xml_shows_nothing_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "LIDC-IDRI-0001" / FOLDER / "series"
    write_dicom(folder)
    series = str(pydicom.dcmread(folder / f"{NAME}-0.dcm", force=True).SeriesInstanceUID)
    image = str(pydicom.dcmread(folder / f"{NAME}-2.dcm", force=True).SOPInstanceUID)
    mark = f"<roi><inclusion>TRUE</inclusion><imageSOP_UID>{image}</imageSOP_UID></roi>"
    (folder / "1.xml").write_text(
        f"<LidcReadMessage><ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid><TaskDescription>{NAME}"
        f"</TaskDescription></ResponseHeader><readingSession><servicingRadiologistID>{NAME}</servicingRadiologistID>"
        f"<unblindedReadNodule><noduleID>{NAME}</noduleID>{mark}</unblindedReadNodule></readingSession></LidcReadMessage>"
    )
    code, out, err = command("reduce", "data", "--dataset", "lidc-idri", "--reducer", "every-n", "--out", "out")
    assert code == 0, err
    code, *explained = command("explain", "out", next((tmp_path / "out" / "arms").iterdir()).name)
    assert code == 0, explained
    assert_private(tmp_path / "out", out, err, *explained)


@pytest.mark.parametrize(
    ("dataset", "write"), [("nifti", write_nifti), ("metaimage", write_text_headers), ("images", write_pictures)]
)
def test_other_formats_show_nothing_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, dataset: str, write: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / FOLDER)
    code, out, err = command("reduce", "data", "--dataset", dataset, "--reducer", "every-n", "--out", "out")
    assert code == 0, err
    arm = next((tmp_path / "out" / "arms").iterdir()).name
    code, *explained = command("explain", "out", arm)
    assert code == 0, explained
    assert_private(tmp_path / "out", out, err, *explained)
