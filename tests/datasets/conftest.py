"""Synthetic DICOM for the tests of the data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctkit.contracts import Skipped, Volume
from ctkit_datasets.dicom import Dicom
from ctkit_datasets.filters import SeriesParams

SliceMaker = Callable[..., Dataset]
Writer = Callable[..., list[Path]]
Scanner = Callable[..., tuple[list[Volume], dict[str, str]]]


def ct_slice(z: float = 0.0, pixels: NDArray[Any] | None = None, **changes: Any) -> Dataset:
    """A CT slice at height ``z`` mm with stored values ``pixels``; a change to None takes an element away."""
    if pixels is None:
        pixels = np.random.default_rng(int(z * 10) + 1000).integers(0, 2000, (16, 16)).astype(np.int16)
    data = Dataset()
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = f"1.2.3.{int(z * 1000) + 10_000_000}"
    data.Modality = "CT"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.PatientID = "secret-patient"
    data.PatientName = "Secret^Name"
    data.StudyInstanceUID = "1.2.3.1"
    data.SeriesInstanceUID = "1.2.3.1.1"
    data.FrameOfReferenceUID = "1.2.3.2"
    data.BodyPartExamined = "CHEST"
    data.ConvolutionKernel = "B30f"
    data.SliceThickness = "2.5"
    data.ImagePositionPatient = ["-8", "-8", repr(z)]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.PixelSpacing = ["0.5", "0.75"]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit = data.BitsAllocated - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if "BitsStored" in changes and "HighBit" not in changes:
        data.HighBit = data.BitsStored - 1
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.get("SOPClassUID", "")
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


@pytest.fixture
def make_slice() -> SliceMaker:
    """Makes a CT slice: ``make_slice(z, pixels, Keyword=value)``."""
    return ct_slice


@pytest.fixture
def write_slices(tmp_path: Path) -> Writer:
    """Writes slices below ``tmp_path / "data"`` as ``0000.dcm`` and so on, or by the names given."""

    def write(slices: Iterable[Dataset], names: Iterable[str] | None = None) -> list[Path]:
        slices = list(slices)
        paths = []
        for data, name in zip(slices, names or (f"{number:04d}.dcm" for number in range(len(slices))), strict=False):
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    return write


@pytest.fixture
def scan(tmp_path: Path) -> Scanner:
    """Scans ``tmp_path / "data"``: the volumes and, by file, the reasons of the rest. Takes parameters of ``dicom``."""

    def scan(**params: Any) -> tuple[list[Volume], dict[str, str]]:
        return scan_folder(Dicom(SeriesParams(root=tmp_path / "data", **params)))

    return scan


def scan_folder(dataset: Any) -> tuple[list[Volume], dict[str, str]]:
    """Run the three steps of a scan, and check that every file is accounted for, once."""
    found = [(file, dataset.inspect(file)) for file in dataset.files()]
    outcomes = [facts for _, facts in found if isinstance(facts, Skipped)]
    outcomes += dataset.arrange((file, facts) for file, facts in found if not isinstance(facts, Skipped))
    volumes = [outcome for outcome in outcomes if isinstance(outcome, Volume)]
    skipped = [outcome for outcome in outcomes if isinstance(outcome, Skipped)]
    used = {file.path for volume in volumes for file in volume.files}
    names = [file.path for file, _ in found]
    assert sorted([*used, *(skip.source for skip in skipped)]) == sorted(names)
    return volumes, {skip.source: skip.reason for skip in skipped}
