"""Writes phantoms as the files that real CT comes in: DICOM series, NIfTI volumes, and labelled PNG folders."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ctkit.contracts import Volume
from ctkit.files import writing
from ctkit.slices.rendering import training
from ctkit_datasets.phantom import Phantom
from ctkit_phantom.lesions import CLASSES, FIRST_PATIENT, lesion_slices

PADDING = -2000  #: stored value outside the scanner's circle, where there is padding


def write_dicom(root: Path, phantom: Phantom, *, padding: bool = False) -> list[Path]:
    """Write every volume in the layout of TCIA, ``LIDC-IDRI/PATIENT/STUDY/SERIES/1-001.dcm``; return the files.

    Files are numbered from the head to the feet, as scanners do. With ``padding`` what lies outside the circle that
    the scanner sees is ``PADDING``, which is below any HU after rescaling, and PixelPaddingValue says so.
    """
    written = []
    for volume in phantom.arrange(()):
        assert isinstance(volume, Volume)
        number = int(volume.details["number"])
        patient = f"LIDC-IDRI-{number + 1:04d}"
        folder = root / "LIDC-IDRI" / patient / "01-01-2000-NA-NA-10000" / f"3000{number:03d}.000000-NA-00001"
        values = phantom.read(volume).values
        for file_number, index in enumerate(reversed(range(len(volume))), start=1):
            stored = _stored(values[index], padding)
            data = _ct_image(phantom, volume, index, stored)
            data.InstanceNumber = file_number
            if padding:
                data.add_new("PixelPaddingValue", "SS", PADDING)
            path = folder / f"1-{file_number:03d}.dcm"
            with writing(path) as temporary:
                data.save_as(temporary, enforce_file_format=True)
            written.append(path)
    return written


def _stored(hu: NDArray[np.int16], padding: bool) -> NDArray[np.int16]:
    stored = hu + np.int16(1024)
    if padding:
        places = ((np.arange(len(stored)) + 0.5) * 2 / len(stored) - 1.0) ** 2
        stored[places[:, None] + places[None, :] > 1.0] = PADDING
    return stored


def _ct_image(phantom: Phantom, volume: Volume, index: int, stored: NDArray[np.int16]) -> Dataset:
    """Return one CT Image Storage object, with the modules that PS3.3 section A.3 asks for."""
    number = int(volume.details["number"])
    kinds = ("study", "series")
    uids = [str(generate_uid(entropy_srcs=[kind, str(phantom.params.seed), str(number)])) for kind in kinds]
    x, y, z = (float(step or 0.0) for step in volume.spacing)
    corner = x * (0.5 - volume.columns / 2), y * (0.5 - volume.rows / 2), phantom.lowest(number) + index * z
    data = Dataset()
    data.update(_SAME_IN_ALL)
    data.PatientID = f"LIDC-IDRI-{number + 1:04d}"
    data.StudyInstanceUID, data.SeriesInstanceUID = uids
    data.FrameOfReferenceUID = generate_uid(entropy_srcs=uids)
    data.SOPInstanceUID = generate_uid(entropy_srcs=[*uids, str(index)])
    data.ImagePositionPatient = [_decimal(place) for place in corner]
    data.PixelSpacing = [_decimal(y), _decimal(x)]
    data.SliceThickness = _decimal(z)
    data.Rows, data.Columns = stored.shape
    data.PixelData = stored.astype("<i2").tobytes()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data


def _same_in_all() -> Dataset:
    data = Dataset()
    data.SOPClassUID = CTImageStorage
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.Modality = "CT"
    data.Manufacturer = "ctkit phantom"
    data.BodyPartExamined = "CHEST"
    data.PatientPosition = "HFS"
    data.StudyDate = "20000101"
    data.SeriesNumber = data.AcquisitionNumber = 1
    data.KVP = "120"
    data.ConvolutionKernel = "STANDARD"
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 1
    data.RescaleIntercept = "-1024"
    data.RescaleSlope = "1"
    data.RescaleType = "HU"
    for unknown in ("PatientName", "PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber",
                    "ReferringPhysicianName", "PositionReferenceIndicator"):  # fmt: skip
        setattr(data, unknown, "")
    return data


_SAME_IN_ALL = _same_in_all()


def _decimal(value: float) -> str:
    """Return a decimal string of at most the 16 characters that PS3.5 allows."""
    return f"{value:.6f}"


def write_nifti(root: Path, phantom: Phantom, name: str = "{patient}.nii.gz") -> list[Path]:
    """Write every volume below ``root`` in RAS orientation; return the files.

    ``name`` may hold folders: ``"{patient}/study/CT.nii.gz"`` is the tree of FDG-PET-CT-Lesions.
    """
    written = []
    for volume in phantom.arrange(()):
        assert isinstance(volume, Volume)
        values = phantom.read(volume).values
        image: Any = nibabel.Nifti1Image  # nibabel types only part of itself
        data = image(values[:, ::-1, ::-1].transpose(2, 1, 0), _affine(phantom, volume)).to_bytes()
        path = root / name.format(patient=volume.patient)
        with writing(path) as temporary:
            temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        written.append(path)
    return written


def _affine(phantom: Phantom, volume: Volume) -> NDArray[np.float64]:
    """Return where the voxels lie once columns run to the right and rows to the front, in mm."""
    x, y, z = (float(step or 0.0) for step in volume.spacing)
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = (
        x * (0.5 - volume.columns / 2),
        y * (0.5 - volume.rows / 2),
        phantom.lowest(volume.details["number"]),
    )
    return affine


def write_image_folder(
    folder: Path, *, seed: int = 0, train: int = 60, val: int = 20, test: int = 40, slices: int = 2, size: int = 128
) -> None:
    """Write ``split/class/PATIENT-n.png``: slices in the window of pre-training, classes ``healthy`` and ``lesion``.

    ``train``, ``val`` and ``test`` are numbers of patients; no patient is in two splits or in data set ``phantom``.
    """
    first = FIRST_PATIENT
    for split, patients in (("train", train), ("val", val), ("test", test)):
        images, labels, names = lesion_slices(seed, patients, size, slices=slices, first_patient=first)
        first += patients
        grey = training(images, "HU", "hu-window", size)
        for number, (image, label, name) in enumerate(zip(grey, labels, names, strict=True)):
            with writing(folder / split / CLASSES[label] / f"{name}-{number % slices}.png") as temporary:
                Image.fromarray(image).save(temporary, "png")
