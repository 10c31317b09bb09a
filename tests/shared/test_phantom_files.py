from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from ctkit.contracts import Volume
from ctkit.slices.rendering import training
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_phantom.lesions import FIRST_PATIENT, lesion_slices
from phantom_files import PADDING, write_dicom, write_image_folder, write_nifti


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(PhantomParams(patients=2, slices=5, matrix=40, slice_spacing=7.5))


def volume(phantom: Phantom, number: int) -> np.ndarray:
    described = phantom.volume(number)
    assert isinstance(described, Volume)
    return phantom.read(described).values


def test_dicom_has_the_layout_of_tcia_and_one_series_a_patient(phantom: Phantom, tmp_path: Path) -> None:
    written = write_dicom(tmp_path, phantom)
    assert sorted(tmp_path.rglob("*.dcm")) == sorted(written)
    assert len(written) == 10
    for path in written:
        root, patient, _study, _series, name = path.relative_to(tmp_path).parts
        assert (root, patient[:10], name[:2]) == ("LIDC-IDRI", "LIDC-IDRI-", "1-")
    files = [pydicom.dcmread(path) for path in written]
    assert len({data.SeriesInstanceUID for data in files}) == len({data.StudyInstanceUID for data in files}) == 2
    assert len({data.SOPInstanceUID for data in files}) == 10
    assert {data.PatientID for data in files} == {"LIDC-IDRI-0001", "LIDC-IDRI-0002"}


def test_other_software_reads_the_dicom_as_the_phantom_is(phantom: Phantom, tmp_path: Path) -> None:
    written = write_dicom(tmp_path, phantom)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(written[0].parent)))
    image = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume(phantom, 0))
    assert image.GetSpacing()[2] == pytest.approx(7.5)
    assert image.GetSpacing()[0] == pytest.approx(phantom.volume(0).spacing[0], abs=1e-5)
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel())


def test_dicom_file_names_count_from_head_to_feet(phantom: Phantom, tmp_path: Path) -> None:
    heights = [pydicom.dcmread(path).ImagePositionPatient[2] for path in write_dicom(tmp_path, phantom)[:5]]
    np.testing.assert_allclose(np.diff(heights), -7.5)


def test_dicom_with_padding_says_so_and_changes_nothing_inside_the_circle(phantom: Phantom, tmp_path: Path) -> None:
    plain, padded = (
        [pydicom.dcmread(path) for path in write_dicom(tmp_path / str(padding), phantom, padding=padding)]
        for padding in (False, True)
    )
    for without, with_padding in zip(plain, padded, strict=True):
        outside = with_padding.pixel_array == PADDING
        assert with_padding.PixelPaddingValue == PADDING
        assert "PixelPaddingValue" not in without
        assert 0.15 < outside.mean() < 0.25  # of a square, 1 - pi / 4 lies outside its circle
        np.testing.assert_array_equal(with_padding.pixel_array[~outside], without.pixel_array[~outside])


def test_dicom_is_valid_where_pydicom_is_strict(phantom: Phantom, tmp_path: Path) -> None:
    with warnings.catch_warnings(), pydicom.config.strict_reading():
        warnings.simplefilter("error")
        for path in write_dicom(tmp_path, phantom, padding=True):
            data = pydicom.dcmread(path)
            assert len(str(data)) > 100  # every element is decoded
            assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


@pytest.mark.parametrize("name", ["{patient}.nii", "{patient}.nii.gz", "{patient}/study/CT.nii.gz"])
def test_other_software_reads_the_nifti_as_the_phantom_is(phantom: Phantom, tmp_path: Path, name: str) -> None:
    written = write_nifti(tmp_path, phantom, name)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        name.format(patient=f"phantom-{number}") for number in range(2)
    ]
    image = nibabel.load(written[1])
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    upright = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(written[1])), "LPS")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(upright), volume(phantom, 1))


def test_dicom_and_nifti_of_a_phantom_lie_at_the_same_place(phantom: Phantom, tmp_path: Path) -> None:
    (dicom, *_), (nifti, _) = write_dicom(tmp_path / "dicom", phantom), write_nifti(tmp_path / "nifti", phantom)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(dicom.parent)))
    other = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(nifti)), "LPS")
    np.testing.assert_allclose(reader.Execute().GetOrigin(), other.GetOrigin(), atol=1e-3)


def test_files_are_written_alike_each_time(phantom: Phantom, tmp_path: Path) -> None:
    for write in (write_dicom, write_nifti):
        one, other = (write(tmp_path / side / write.__name__, phantom) for side in "ab")
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_an_image_folder_holds_every_labelled_slice_in_its_class(tmp_path: Path) -> None:
    write_image_folder(tmp_path, seed=4, train=4, val=2, test=2, slices=3, size=32)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert len(found) == 8 * 3
    assert {tuple(path.split("/")[:2]) for path in found} == {
        (split, label) for split in ("train", "val", "test") for label in ("healthy", "lesion")
    }
    images, labels, patients = lesion_slices(4, 2, 32, slices=3, first_patient=FIRST_PATIENT + 4)
    assert (labels[3], patients[3]) == (1, f"phantom-{FIRST_PATIENT + 5}")
    written = np.asarray(Image.open(tmp_path / "val" / "lesion" / f"phantom-{FIRST_PATIENT + 5}-0.png"))
    np.testing.assert_array_equal(written, training(images[3:4], "HU", "hu-window", 32)[0])


def test_no_patient_of_an_image_folder_is_in_two_splits(tmp_path: Path) -> None:
    write_image_folder(tmp_path, train=4, val=2, test=2, slices=1, size=32)
    patients = [path.stem.rsplit("-", 1)[0] for path in tmp_path.rglob("*.png")]
    assert len(set(patients)) == len(patients) == 8
