"""What is given to the wrong data set is left out with the one that reads it."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from pydantic import ValidationError

from ctkit_datasets.dicom import Dicom
from ctkit_datasets.filters import SeriesParams
from ctkit_datasets.images import NUMBERED, Images, ImagesParams
from ctkit_datasets.lidc_idri import LidcIdri, RecipeParams
from ctkit_datasets.metaimage import MetaImage
from ctkit_datasets.nifti import Nifti, NiftiParams

from .conftest import ct_slice, scan_folder

DATASETS: dict[str, Callable[[Path], Any]] = {
    "dicom": lambda root: Dicom(SeriesParams(root=root)),
    "lidc-idri": lambda root: LidcIdri(RecipeParams(root=root)),
    "nifti": lambda root: Nifti(NiftiParams(root=root)),
    "metaimage": lambda root: MetaImage(NiftiParams(root=root)),
    "images": lambda root: Images(ImagesParams(root=root)),
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of everything."""
    values = np.random.default_rng(0).integers(-1000, 1000, (8, 8, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "scan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "named-wrongly.nii")
    (tmp_path / "named-wrongly.nii").rename(tmp_path / "plain")
    for name in ("scan.mha", "scan.nrrd"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(tmp_path / name))
    ct_slice().save_as(tmp_path / "IM0001", enforce_file_format=True)
    Image.fromarray(values[..., 0].astype(np.uint8)).save(tmp_path / "p_1.png")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("x", "x")
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz"):
        pass
    np.save(tmp_path / "scan.npy", values)
    (tmp_path / "notes.txt").write_text("nothing")
    return tmp_path


OWN = {"dicom": {"IM0001"}, "lidc-idri": {"IM0001"}, "nifti": {"scan.nii.gz"}, "images": {"p_1.png"}}
WORDS = {
    "scan.nii.gz": "NIfTI, which data set nifti reads",
    "scan.mha": "MetaImage or NRRD, which data set metaimage reads",
    "scan.nrrd": "MetaImage or NRRD, which data set metaimage reads",
    "IM0001": "DICOM, which data set dicom reads",
    "p_1.png": "a picture, which data set images reads",
    "data.zip": "an archive: unpack it",
    "data.tar.gz": "an archive: unpack it",
    "scan.npy": "a format that no data set reads",
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_file_of_another_kind_is_left_out_with_the_data_set_that_reads_it(mixed: Path, name: str) -> None:
    _, skipped = scan_folder(DATASETS[name](mixed))
    own = OWN.get(name, {"scan.mha", "scan.nrrd"})
    for path, words in WORDS.items():
        if path not in own:
            assert skipped[path].startswith(words), path
    assert "which data set" not in skipped["notes.txt"]
    if name != "nifti":
        assert skipped["plain"] == WORDS["scan.nii.gz"]


def test_a_root_that_is_an_archive_is_to_be_unpacked(mixed: Path) -> None:
    with pytest.raises(ValidationError, match=r"is a file: .*data.zip; it is an archive: unpack it"):
        NiftiParams(root=mixed / "data.zip")


def test_numbered_pictures_that_make_up_no_volume_name_the_pattern_that_helps(tmp_path: Path) -> None:
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 255, (8, 8)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f"Patient 1 slice{number}.png")
    volumes, skipped = scan_folder(Images(ImagesParams(root=tmp_path)))
    assert volumes == []
    assert len(skipped) == 4
    for reason in skipped.values():
        assert NUMBERED in reason
        assert "min_slices = 1" in reason
        assert "Patient 1" not in reason
    (volume,), _ = scan_folder(Images(ImagesParams(root=tmp_path, pattern=NUMBERED)))
    assert (volume.patient, len(volume)) == ("Patient 1", 4)
    assert len(scan_folder(Images(ImagesParams(root=tmp_path, min_slices=1)))[0]) == 4


def test_pictures_without_numbers_name_min_slices(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "one.png")
    assert scan_folder(Images(ImagesParams(root=tmp_path)))[1] == {
        "one.png": "a volume of fewer than 3 slices (parameter min_slices)"
    }
