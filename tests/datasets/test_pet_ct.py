from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ctkit.contracts import Skipped, Volume
from ctkit_datasets.pet_ct import PetCt, PetCtParams

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]


def scan(root: Path, **params: Any) -> tuple[PetCt, list[Volume], dict[str, str]]:
    dataset = PetCt(PetCtParams(root=root, **params))
    found = [(file, dataset.inspect(file)) for file in dataset.files()]
    outcomes: list[Volume | Skipped] = [facts for _, facts in found if isinstance(facts, Skipped)]
    outcomes += dataset.arrange((file, facts) for file, facts in found if not isinstance(facts, Skipped))
    skipped = {outcome.source: outcome.reason for outcome in outcomes if isinstance(outcome, Skipped)}
    return dataset, [outcome for outcome in outcomes if isinstance(outcome, Volume)], skipped


def write_tree(root: Path, patient: str, **volumes: NDArray[np.int16]) -> None:
    folder = root / patient / "study"
    folder.mkdir(parents=True)
    for name, values in volumes.items():
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0])), folder / f"{name}.nii.gz")


def ct_voxels(seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 1000, (6, 5, 4)).astype(np.int16)


def test_the_ct_of_a_dicom_study_is_read_and_pet_and_segmentation_are_left_out(
    make_slice: Slices, write_slices: Write, tmp_path: Path
) -> None:
    for modality in ("CT", "PT", "SEG"):
        write_slices(
            (
                make_slice(float(z), Modality=modality, SeriesInstanceUID=f"1.{len(modality)}.{modality == 'PT':d}")
                for z in range(4)
            ),
            [f"PETCT_1/study/{modality}/{number}.dcm" for number in range(4)],
        )
    dataset, (volume,), skipped = scan(tmp_path / "data")
    assert volume.source(0) == "PETCT_1/study/CT/0.dcm"
    assert sorted(set(skipped.values())) == ["modality PT", "modality SEG"]
    assert dataset.read(volume).unit == "HU"


def test_the_ct_of_a_nifti_tree_is_read(tmp_path: Path) -> None:
    voxels = ct_voxels(1)
    write_tree(tmp_path / "data", "PETCT_1", CT=voxels, CTres=ct_voxels(2), SUV=ct_voxels(3))
    dataset, (volume,), skipped = scan(tmp_path / "data")
    assert volume.patient == "PETCT_1"
    assert set(skipped) == {"PETCT_1/study/CTres.nii.gz", "PETCT_1/study/SUV.nii.gz"}
    pixels = dataset.read(volume)
    assert pixels.unit == "HU"
    np.testing.assert_array_equal(pixels.values, voxels.transpose(2, 1, 0))


def test_the_resampled_ct_is_read_on_request(tmp_path: Path) -> None:
    write_tree(tmp_path / "data", "PETCT_1", CT=ct_voxels(1), CTres=ct_voxels(2))
    _, (volume,), _ = scan(tmp_path / "data", resampled=True)
    assert volume.source(0) == "PETCT_1/study/CTres.nii.gz"


def test_the_published_recipe_numbers_volumes_and_takes_nifti_only(
    make_slice: Slices, write_slices: Write, tmp_path: Path
) -> None:
    for patient in ("B", "A"):
        write_tree(tmp_path / "data", patient, CT=ct_voxels(1))
    write_slices([make_slice(0.0)], ["C/study/CT/1.dcm"])
    _, volumes, skipped = scan(tmp_path / "data", recipe="published")
    assert [volume.patient for volume in volumes] == ["A", "B"]
    assert skipped == {"C/study/CT/1.dcm": "DICOM, which the published recipe does not use"}


@pytest.mark.parametrize("params", [{"exclude": ["B/*"]}, {"max_patients": 1}])
def test_filters_work_on_both_kinds(
    make_slice: Slices, write_slices: Write, tmp_path: Path, params: dict[str, Any]
) -> None:
    for patient in ("A", "B"):
        write_tree(tmp_path / "data", patient, CT=ct_voxels(1))
    _, (volume,), skipped = scan(tmp_path / "data", **params)
    assert volume.patient == "A"
    assert list(skipped) == ["B/study/CT.nii.gz"]
