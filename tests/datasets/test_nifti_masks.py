"""Label maps that lie with a scan say on which of its slices organs and lesions are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from ctkit_datasets import nifti_masks
from ctkit_datasets.nifti import Nifti, NiftiParams
from ctkit_datasets.pet_ct import PetCt, PetCtParams

from .conftest import scan_folder

AFFINE = np.diag([-3.0, -3.0, 2.5, 1.0])


def write(path: Path, values: NDArray[Any], affine: NDArray[Any] = AFFINE, intent: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine, dtype=values.dtype)
    image.header["intent_code"] = intent
    nibabel.save(image, path)


def ct(path: Path) -> None:
    write(path, np.random.default_rng(0).integers(-1000, 1000, (16, 16, 10)).astype(np.int16))


def mask(**slices: Any) -> NDArray[np.uint8]:
    """Labels on slices: ``mask(_1=(2, 3))`` has a voxel of 1 on the slices 2 and 3."""
    values = np.zeros((16, 16, 10), np.uint8)
    for place, (label, numbers) in enumerate(slices.items()):
        values[4 + place, 4:6, list(numbers)] = int(label[1:])
    return values


def findings(root: Path, volume: int = 0, kind: Any = Nifti, params: Any = NiftiParams) -> dict[str, tuple[int, ...]]:
    dataset = kind(params(root=root))
    return dict(dataset.facts(scan_folder(dataset)[0][volume]).findings)


def test_organs_of_totalsegmentator_are_its_files(tmp_path: Path) -> None:
    for subject in ("s0001", "s0002"):
        ct(tmp_path / subject / "ct.nii.gz")
        write(tmp_path / subject / "segmentations" / "lung_upper_lobe_left.nii.gz", mask(_1=range(3, 7)))
        write(tmp_path / subject / "segmentations" / "liver.nii.gz", mask(), intent=1002)
        (tmp_path / subject / "segmentations" / "spleen.nii.gz").write_bytes(b"damaged")
    for number in (0, 1):
        assert findings(tmp_path, number) == {"lung upper lobe left": (3, 4, 5, 6), "liver": ()}


@pytest.mark.parametrize("channel", ["", "_0000"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"background": 0, "liver": 1, "tumour": 2}, {"liver": (1, 2), "tumour": (5,)}),
        ({"0": "background", "1": "liver", "2": "tumour", "3": "cyst"}, {"liver": (1, 2), "tumour": (5,), "cyst": ()}),
        ({"background": 0, "whole": [1, 2], "core": [2]}, {"whole": (1, 2, 5), "core": (5,)}),
        ({"0": "background", "1": "Left_Kidney", "2": "kidney of MUELLER"}, {"Left_Kidney": (1, 2), "label 2": (5,)}),
        ({"background": 0, "liver 20010203": 1, "liver Ü": 2}, {"label 1": (1, 2), "label 2": (5,)}),
        (None, {"label 1": (1, 2), "label 2": (5,)}),
    ],
)
def test_labels_of_nnunet_and_the_decathlon_have_the_names_of_dataset_json(
    tmp_path: Path, channel: str, labels: Any, names: dict[str, tuple[int, ...]]
) -> None:
    ct(tmp_path / "imagesTr" / f"case_7{channel}.nii.gz")
    ct(tmp_path / "imagesTr" / f"case_80{channel}.nii.gz")
    write(tmp_path / "labelsTr" / "case_7.nii.gz", mask(_1=(1, 2), _2=(5,)))
    if labels:
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert findings(tmp_path, 0) == names
    assert findings(tmp_path, 1) == {}


def test_a_mask_that_was_scaled_to_16_bits_is_read(tmp_path: Path) -> None:
    ct(tmp_path / "p.nii.gz")
    image = nibabel.Nifti1Image(mask(_1=(2,), _2=(3,)).astype(np.float64), AFFINE)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "p_seg.nii.gz")
    assert findings(tmp_path) == {"label 1": (2,), "label 2": (3,)}


def test_kits_and_pet_ct_name_their_labels(tmp_path: Path) -> None:
    ct(tmp_path / "kits" / "case_00000" / "imaging.nii.gz")
    write(tmp_path / "kits" / "case_00000" / "segmentation.nii.gz", mask(_1=range(8), _2=(4,)))
    assert findings(tmp_path / "kits") == {"kidney": tuple(range(8)), "tumour": (4,), "cyst": ()}
    ct(tmp_path / "pet" / "PETCT_a" / "s1" / "CT.nii.gz")
    write(tmp_path / "pet" / "PETCT_a" / "s1" / "SEG.nii.gz", mask(_1=(4,)))
    for kind, params in ((Nifti, NiftiParams), (PetCt, PetCtParams)):
        assert findings(tmp_path / "pet", 0, kind, params) == {"lesion": (4,)}


def test_a_mask_on_another_grid_is_brought_to_the_scans_slices(tmp_path: Path) -> None:
    ct(tmp_path / "PETCT_a" / "s1" / "CT.nii.gz")  # slices at 0, 2.5, ... 22.5 mm
    coarse = np.zeros((8, 8, 5), np.uint8)  # at 0, 5, ... 20 mm, upside down
    coarse[3, 3, 4 - 2] = 1
    write(tmp_path / "PETCT_a" / "s1" / "SEG.nii.gz", coarse, np.array(
        [[-6.0, 0, 0, 0], [0, -6.0, 0, 0], [0, 0, -5.0, 20], [0, 0, 0, 1]]))  # fmt: skip
    assert findings(tmp_path) == {"lesion": (4, 5)}  # at 10 and 12.5 mm; 7.5 is as near to 5
    fine = np.zeros((8, 8, 30), np.uint8)  # at 0, 1, 2, ... mm
    fine[3, 3, 11] = 1
    write(tmp_path / "PETCT_a" / "s1" / "SEG.nii.gz", fine, np.diag([-6.0, -6.0, 1.0, 1.0]))
    assert findings(tmp_path) == {"lesion": (4,)}  # 11 mm is nearest to the slice at 10
    turned = np.array([[-6.0, 0, 0, 0], [0, -4.0, 1.0, 0], [0, 4.0, 1.0, 0], [0, 0, 0, 1]])
    write(tmp_path / "PETCT_a" / "s1" / "SEG.nii.gz", fine, turned)
    assert findings(tmp_path) == {}  # its slices cut across the scan's


def test_derivatives_of_bids_belong_to_subject_and_session(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        ct(tmp_path / "sub-01" / session / "ct" / f"sub-01_{session}_ct.nii.gz")
        name = f"sub-01_{session}_label-liver_dseg.nii.gz"
        write(tmp_path / "derivatives" / "x" / "sub-01" / session / name, mask(_1=(int(session[-1]),)))
    ct(tmp_path / "sub-02" / "ct" / "sub-02_ct.nii.gz")
    assert findings(tmp_path, 0) == {"liver": (1,)}
    assert findings(tmp_path, 1) == {"liver": (2,)}
    assert findings(tmp_path, 2) == {}


def test_labels_of_another_visit_are_not_those_of_a_scan_whose_name_begins_alike(tmp_path: Path) -> None:
    for session, slices in (("ses-1", ()), ("ses-10", (3,))):
        ct(tmp_path / "bids" / "sub-1" / session / "ct" / f"sub-1_{session}_ct.nii.gz")
        write(tmp_path / "bids" / "derivatives" / "sub-1" / session / f"sub-1_{session}_liver.nii.gz", mask(_1=slices))
        name = f"p_1{session.removeprefix('ses-1').replace('0', '_2')}"
        ct(tmp_path / "flat" / f"{name}.nii.gz")
        write(tmp_path / "flat" / f"{name}_seg.nii.gz", mask(_1=slices))
    assert [findings(tmp_path / "bids", number) for number in (0, 1)] == [{"liver": ()}, {"liver": (3,)}]
    assert [findings(tmp_path / "flat", number) for number in (0, 1)] == [{"label": ()}, {"label": (3,)}]


@pytest.mark.parametrize(
    ("scan", "label", "title"),
    [
        ("Mueller.nii.gz", "Mueller_seg.nii.gz", "label"),
        ("Mueller_ct.nii.gz", "Mueller_lung_mask.nii.gz", "lung"),
        ("images/img0001.nii.gz", "masks/img0001.nii.gz", "label"),
        ("ct_scans/p1.nii.gz", "lung_and_infection_mask/p1.nii.gz", "label"),
        ("volume-0.nii", "segmentation-0.nii", "label"),
        ("images/Mueller1.nii", "masks/maskMueller1.nii", None),
        ("images/img0001.nii", "labels/label0001.nii", "label"),
        ("Mueller/ct.nii.gz", "Mueller/liver.nii.gz", "liver"),
    ],
)
def test_label_maps_elsewhere_belong_to_the_scan_that_is_named_like_them(
    tmp_path: Path, scan: str, label: str, title: str | None
) -> None:
    ct(tmp_path / scan)
    ct(tmp_path / scan.replace("Mueller", "Mueller10").replace("1.nii", "12.nii").replace("-0", "-01"))
    write(tmp_path / label, mask(_1=(6,)))
    dataset = Nifti(NiftiParams(root=tmp_path))
    volumes, _ = scan_folder(dataset)
    assert len(volumes) == 2
    assert {volume.key: dict(dataset.facts(volume).findings) for volume in volumes} == {
        volume.key: {title: (6,)} if title and volume.key == scan else {} for volume in volumes
    }


@pytest.mark.parametrize(
    ("mask", "title"),
    [("mueller_hans_seg", "label"), ("mueller_left_kidney_seg", "left kidney"), ("vertebrae_T12", "vertebrae t12")],
)
def test_only_words_of_anatomy_are_shown_of_a_masks_name(mask: str, title: str) -> None:
    assert nifti_masks._title(Path(f"P1/{mask}.nii.gz"), Path("P1/ct.nii.gz")) == title
