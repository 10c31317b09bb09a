"""Layouts of public archives: which of their NIfTI files are CT, and whose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from ctkit_datasets.nifti import Nifti, NiftiParams
from ctkit_datasets.nifti_layouts import mask_by_place, roles

from .conftest import scan_folder

PATIENTS: dict[str, dict[str, str]] = {
    "TotalSegmentator": {"s0001/ct.nii.gz": "s0001", "s0002/ct.nii.gz": "s0002"},
    "one of TotalSegmentator": {"s0001/ct.nii.gz": "s0001"},
    "nnU-Net": {
        "imagesTr/case_000_0000.nii.gz": "case_000",
        "imagesTr/case_001_0000.nii.gz": "case_001",
        "imagesTs/case_002_0000.nii.gz": "case_002",
    },
    "numbers that are no channels": {
        "imagesTr/amos_0001.nii.gz": "amos_0001",
        "imagesTr/amos_0004.nii.gz": "amos_0004",
        "imagesVa/amos_0008.nii.gz": "amos_0008",
    },
    "a number and a channel": {
        "imagesTr/FLARE22_Tr_0001_0000.nii.gz": "FLARE22_Tr_0001",
        "imagesTr/FLARE22_Tr_0002_0000.nii.gz": "FLARE22_Tr_0002",
    },
    "two archives of nnU-Net": {
        "nnUNet_raw/Dataset001_A/imagesTr/case_0_0000.nii.gz": "nnUNet_raw/Dataset001_A/case_0",
        "nnUNet_raw/Dataset002_B/imagesTr/case_0_0000.nii.gz": "nnUNet_raw/Dataset002_B/case_0",
    },
    "Decathlon": {
        "Task06_Lung/imagesTr/lung_001.nii.gz": "lung_001",
        "Task06_Lung/imagesTs/lung_002.nii.gz": "lung_002",
    },
    "autoPET III": {
        "imagesTr/fdg_0011f3deaf_03-23-2003-PET_0000.nii.gz": "fdg_0011f3deaf",
        "imagesTr/fdg_0011f3deaf_10-05-2004-PET_0000.nii.gz": "fdg_0011f3deaf",
        "imagesTr/psma_95b833d65be26d2f_2018-04-23_0000.nii.gz": "psma_95b833d65be26d2f",
    },
    "KiTS": {"case_00000/imaging.nii.gz": "case_00000", "case_00001/imaging.nii.gz": "case_00001"},
    "KiTS in a folder": {"kits23/dataset/case_00000/imaging.nii.gz": "case_00000"},
    "PET and CT": {f"PETCT_{patient}/s{n}/CT.nii.gz": f"PETCT_{patient}" for patient in "ab" for n in range(2)},
    "BIDS": {
        "sub-01/ses-1/ct/sub-01_ses-1_ct.nii.gz": "sub-01",
        "sub-01/ses-2/anat/sub-01_ses-2_acq-bone_ct.nii.gz": "sub-01",
        "sub-02/ct/sub-02_ct.nii.gz": "sub-02",
    },
    "VerSe": {f"rawdata/sub-{name}/sub-{name}_ct.nii.gz": f"sub-{name}" for name in ("verse004", "gl1")},
    "BIDS without folders": {"sub-01_ct.nii.gz": "sub-01", "sub-02_ct.nii.gz": "sub-02"},
    "flat": {"a.nii.gz": "a.nii.gz", "b.nii": "b.nii"},
    "one folder": {"mine/a.nii.gz": "a.nii.gz", "mine/b.nii.gz": "b.nii.gz"},
    "one file": {"mine/a.nii.gz": "mine"},
    "images beside masks": {"images/img0001.nii.gz": "img0001.nii.gz", "images/img0002.nii.gz": "img0002.nii.gz"},
    "parts": {"train/ct/1.nii.gz": "1.nii.gz", "test/ct/2.nii.gz": "2.nii.gz", "val/3.nii.gz": "3.nii.gz"},
    "batches": {f"Training_Batch{n}/volume-{n}.nii": f"volume-{n}.nii" for n in (1, 2)},
    "folds": {f"fold{n}/p{n}/ct.nii.gz": f"p{n}" for n in range(3)},
    "patients": {"p1/ct.nii.gz": "p1", "p1/late.nii.gz": "p1", "p2/ct.nii.gz": "p2"},
    "numbered patients": {"Patient 1/ct.nii.gz": "Patient 1", "Patient 2/ct.nii.gz": "Patient 2"},
    "numbers": {"0001/x.nii.gz": "0001", "0002/x.nii.gz": "0002"},
    "studies of patients": {f"p{n}/study{k}/ct.nii.gz": f"p{n}" for n in range(4) for k in range(2)},
    "many studies of patients": {f"p{n}/study{k}/ct.nii.gz": f"p{n}" for n in range(7) for k in range(6)},
    "series of patients": {f"p{n}/1.2.{n}{k}.nii.gz": f"p{n}" for n in range(5) for k in range(1 + n % 2)},
    "one flat folder among others": {"ours/a.nii": "ours"} | {f"theirs/{n}.nii": f"{n}.nii" for n in range(3)},
    "files named after their folders": {f"p{n}/p{n}_{k}.nii.gz": f"p{n}" for n in range(2) for k in range(6)},
    "two hospitals": {f"{site}/{site}{n}/ct.nii": f"{site}{n}" for site in ("north", "south") for n in range(9)},
    "two flat hospitals": {f"{site}/{site[0]}{n}.nii": f"{site[0]}{n}.nii" for site in ("XX", "YY") for n in range(9)},
}  # fmt: skip


@pytest.mark.parametrize("layout", PATIENTS)
def test_no_shared_folder_is_a_patient(tmp_path: Path, layout: str) -> None:
    paths = list(PATIENTS[layout])
    assert not any(map(mask_by_place, paths))
    assert {path: role[:2] for path, role in zip(paths, roles(tmp_path, paths), strict=True)} == {
        path: (patient, "") for path, patient in PATIENTS[layout].items()
    }


#: Two patients of one name in each, as different archives or hospitals have them.
NAMESAKES = {
    "BIDS below sites": ("siteA/sub-01/ct/sub-01_ct.nii.gz", "siteB/sub-01/ct/sub-01_ct.nii.gz"),
    "BIDS without folders": ("siteA/sub-01_ct.nii.gz", "siteB/sub-01_ct.nii.gz"),
    "TotalSegmentator": ("v1/s0001/ct.nii.gz", "v2/s0001/ct.nii.gz"),
    "KiTS": ("kits19/case_00000/imaging.nii.gz", "kits23/case_00000/imaging.nii.gz"),
    "PET and CT": ("A/PETCT_1/s/CT.nii.gz", "B/PETCT_1/s/CT.nii.gz"),
    "nnU-Net": ("Dataset001_A/imagesTr/c_0000.nii.gz", "Dataset002_B/imagesTr/c_0000.nii.gz"),
    "nnU-Net and BIDS": ("x/imagesTr/sub-1_0000.nii.gz", "sub-1/ct/sub-1_ct.nii.gz"),
    "folders": ("train/p1/ct.nii", "test/p1/ct.nii"),
    "files": ("Training_Batch1/volume-0.nii", "Training_Batch2/volume-0.nii"),
    "public and private": ("public/sub-1/a.nii", "private/sub-1/a.nii"),
    "letters that are none of a to z": ("\u533b\u9662CT/sub-1/a.nii", "\u4e2d\u5fc3CT/sub-1/a.nii"),
    "numbers": ("raw1/sub-1/a.nii", "raw2/sub-1/a.nii"),
}


@pytest.mark.parametrize("layout", NAMESAKES)
def test_two_patients_of_one_name_stay_two_and_a_note_says_so(tmp_path: Path, layout: str) -> None:
    found = list(roles(tmp_path, NAMESAKES[layout]))
    assert len({role.patient for role in found}) == 2
    assert all("are taken for different ones; `patient` can say otherwise" in role.note for role in found)


@pytest.mark.parametrize(
    "paths",
    [
        ("rawdata/sub-1/ct/sub-1_ct.nii.gz", "sourcedata/sub-1/sub-1_ct.nii.gz"),
        ("bids/ct/sub-1_ct.nii.gz", "bids/anat/sub-1_ct.nii.gz"),
        ("ses-1/sub-1_ct.nii.gz", "ses-2/sub-1_ct.nii.gz"),
        ("original/s0001/ct.nii.gz", "resampled/s0001/ct.nii.gz"),
    ],
)
def test_one_patient_in_several_forms_or_sessions_stays_one(tmp_path: Path, paths: tuple[str, ...]) -> None:
    found = list(roles(tmp_path, paths))
    assert len({role.patient for role in found}) == 1
    assert {role.note for role in found} == {""}


GUESSED = "nothing says which scans are of one patient"


@pytest.mark.parametrize("name", ["pat{}", "Patient {}", "sub-A{}", "case_{}"])
def test_folders_named_as_patients_are_patients_whatever_lies_in_them(tmp_path: Path, name: str) -> None:
    paths = [f"{name.format(n)}/{'abcdefghijkl'[n * 4 + k]}.nii.gz" for n in range(3) for k in range(4)]
    found = list(roles(tmp_path, paths))
    assert [role.patient for role in found] == [path.split("/")[0] for path in paths]
    assert {role.note for role in found} == {""}


@pytest.mark.parametrize("layout", ["two flat hospitals", "two hospitals", "one folder", "flat", "images beside masks"])
def test_a_scan_that_is_taken_for_a_patient_of_its_own_by_a_guess_has_a_note(tmp_path: Path, layout: str) -> None:
    assert all(role.note.startswith(GUESSED) for role in roles(tmp_path, list(PATIENTS[layout])))


@pytest.mark.parametrize(
    "layout", ["TotalSegmentator", "nnU-Net", "BIDS", "patients", "studies of patients", "numbers", "one file", "folds"]
)
def test_where_folders_say_who_is_who_there_is_no_note(tmp_path: Path, layout: str) -> None:
    assert {role.note for role in roles(tmp_path, list(PATIENTS[layout]))} == {""}


def test_notes_reach_the_volumes_unless_the_user_says_whose_they_are(tmp_path: Path) -> None:
    for site in "AB":
        write(tmp_path / f"site{site}" / "sub-01" / "ct.nii", ct())
    volumes, _ = scan_folder(Nifti(NiftiParams(root=tmp_path)))
    assert [volume.patient for volume in volumes] == ["siteA/sub-01", "siteB/sub-01"]
    assert all("different ones" in volume.notes[-1] for volume in volumes)
    volumes, _ = scan_folder(Nifti(NiftiParams(root=tmp_path, patient="sub-[0-9]+")))
    assert [(volume.patient, volume.notes) for volume in volumes] == [("sub-01", ())] * 2


@pytest.mark.parametrize(
    "path",
    [
        "s0001/segmentations/liver.nii.gz",
        "labelsTr/case_000.nii.gz",
        "Task06_Lung/labelsTr/lung_001.nii.gz",
        "amos22/labelsVa/amos_0008.nii.gz",
        "masks/img0001.nii.gz",
        "train/Labels/1.nii",
        "derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz",
        "bids/derivatives/totalsegmentator/sub-01/ct/sub-01_dseg.nii.gz",
    ],
)
def test_segmentations_are_known_by_their_place(path: str) -> None:
    assert mask_by_place(path)


def test_a_root_that_is_the_folder_of_images_is_known_by_its_own_name(tmp_path: Path) -> None:
    root = tmp_path / "imagesTr"
    root.mkdir()
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "PET", "1": "CT"}}')
    found = list(roles(root, ["a_0000.nii.gz", "a_0001.nii.gz"]))
    assert [role[:2] for role in found] == [("a", "channel 0 is not CT by dataset.json"), ("a", "")]


def test_a_number_that_a_label_bears_too_is_no_channel(tmp_path: Path) -> None:
    (tmp_path / "labelsTr").mkdir()
    paths = [f"imagesTr/word_000{n}.nii.gz" for n in range(3)]
    for path in paths:
        (tmp_path / path.replace("images", "labels")).touch()
    assert [role.patient for role in roles(tmp_path, paths)] == ["word_0000", "word_0001", "word_0002"]


@pytest.mark.parametrize(
    ("document", "used"),
    [
        (None, [0]),
        ("{broken", [0]),
        ({"channel_names": {"0": "CT"}}, [0]),
        ({"channel_names": {"0": "PET", "1": "CT"}}, [1]),
        ({"channel_names": {"0": "CT_native", "1": "ct_arterial", "2": "T1"}}, [0, 1]),
        ({"channel_names": {"0": "noNorm", "1": "zscore"}}, [0]),
        ({"modality": {"0": "MRI"}}, []),
        ({"modality": {"0": "CT"}}, [0]),
        ({"modality": ["CT"]}, [0]),
        ({"channel_names": {"0": "vector", "1": "fact"}}, []),
    ],
)
def test_dataset_json_says_which_channel_is_ct(tmp_path: Path, document: Any, used: list[int]) -> None:
    if document is not None:
        (tmp_path / "dataset.json").write_text(document if isinstance(document, str) else json.dumps(document))
    paths = [f"imagesTr/{case}_{channel:04d}.nii.gz" for case in ("a", "b") for channel in range(3)]
    found = {path: role for path, role in zip(paths, roles(tmp_path, paths), strict=True) if not role.reason}
    assert list(found) == [path for path in paths if int(path[-11:-7]) in used]
    assert {path[9] for path, role in found.items() if role.patient == path[9]} == ({"a", "b"} if used else set())


def test_the_second_channel_of_autopet_is_pet_whatever_dataset_json_calls_it(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT", "1": "CT"}}')
    paths = [f"imagesTr/psma_95b833d65be26d2f_2018-04-23_000{channel}.nii.gz" for channel in (0, 1)]
    assert [role.reason for role in roles(tmp_path, paths)] == ["", "channel 1 of autoPET, which is PET"]


@pytest.mark.parametrize(
    ("paths", "used"),
    [
        (["p/s/CT.nii.gz", "p/s/CTres.nii.gz", "p/s/PET.nii.gz", "p/s/SUV.nii.gz"], ["p/s/CT.nii.gz"]),
        (["p/s/CTres.nii.gz", "p/s/SUV.nii.gz"], ["p/s/CTres.nii.gz"]),
        (["p/p_pet.nii.gz", "p/p_ct.nii.gz"], ["p/p_ct.nii.gz"]),
        (["p/pet_ct.nii.gz", "p/ct_low_dose.nii.gz", "p/ct_t1.nii.gz"], ...),
        (["sub-1/anat/sub-1_T1w.nii.gz", "sub-1/ct/sub-1_ct.nii.gz"], ["sub-1/ct/sub-1_ct.nii.gz"]),
        (["sub-1/pet/sub-1_pet.nii.gz", "sub-1/anat/sub-1_scan.nii.gz"], ["sub-1/anat/sub-1_scan.nii.gz"]),
        (["p/CT/a.nii.gz", "p/PET/a.nii.gz", "p/PET/CT_a.nii.gz"], ["p/CT/a.nii.gz", "p/PET/CT_a.nii.gz"]),
    ],
)
def test_other_modalities_are_left_out_by_their_names(tmp_path: Path, paths: list[str], used: Any) -> None:
    found = [path for path, role in zip(paths, roles(tmp_path, paths), strict=True) if not role.reason]
    assert found == (paths if used is ... else used)


# --- by values ----------------------------------------------------------------------------------------------------


def write(path: Path, values: NDArray[Any], **header: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 2.5, 1.0]), dtype=values.dtype)
    image.header["intent_code"] = header.get("intent", 0)
    nibabel.save(image, path)


def blocks(labels: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """Boxes of numbers 1 to ``labels`` on 0."""
    values = np.zeros((64, 40, 12), dtype)
    for label in range(labels):
        x, y = divmod(label, 10)
        values[4 * x + 1 : 4 * x + 4, 4 * y + 1 : 4 * y + 4, 2:9] = label + 1
    return values


def ct(dtype: Any = np.int16) -> NDArray[Any]:
    values = np.random.default_rng(0).normal(-1000, 8, (64, 40, 12))
    values[8:56, 5:35] += 1040
    return np.rint(values).astype(dtype)


MASKS: dict[str, NDArray[Any]] = {
    "binary": blocks(1),
    "empty": blocks(0),
    "255": blocks(1) * np.uint8(255),
    "float": blocks(5, np.float64),
    "int32": blocks(13, np.int32),
    "many": blocks(117),
    "scattered": np.random.default_rng(0).integers(0, 20, (16, 16, 6)).astype(np.uint8),
    "one by one": (np.random.default_rng(0).random((32, 32, 6)) > 0.99).astype(np.uint8),
    "few but large": blocks(4, np.int32) * 1000,
    "ignored": np.where(blocks(3, np.int16) == 3, -1, blocks(3, np.int16)),
    "ignored, float": np.where(blocks(30, np.float32) == 7, -100, blocks(30, np.float32)).astype(np.float32),
    "all but the ignored": blocks(1, np.int8) - np.int8(1),
}
SCANS: dict[str, NDArray[Any]] = {
    "int16": ct(),
    "offset": ct() + 1024,
    "windowed to 8 bits": np.clip((ct() + 160) / 400 * 255, 0, 255).astype(np.uint8),
    "widely windowed to 8 bits": np.clip((ct() + 1024) / 2048 * 255, 0, 255).astype(np.uint8),
    "of lungs, in 8 bits": np.where(ct() > 0, 255, np.clip((ct() + 1050) * 2, 0, 254)).astype(np.uint8),
    "starts with air": np.concatenate([np.full((64, 40, 30), -1024), ct()], 2).astype(np.int16),
    "starts with zeros": np.concatenate([np.zeros((64, 40, 300)), ct() + 1024], 2).astype(np.uint16),
    "float": ct(np.float32),
    "narrowly windowed": np.clip(ct(), -100, 300),
    "of two values, one of them of air": np.where(ct() > 0, 0, -1000).astype(np.int16),
    "probabilities": np.random.default_rng(0).random((16, 16, 6)).astype(np.float32),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", MASKS)
def test_label_maps_are_left_out_by_their_values_unless_each_file_is_asked_for(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    write(tmp_path / f"thing{suffix}", MASKS[kind])
    volumes, skipped = scan_folder(Nifti(NiftiParams(root=tmp_path)))
    count, first = len(np.unique(MASKS[kind])), min(0, int(MASKS[kind].min()))
    assert (volumes, skipped) == (
        [],
        {f"thing{suffix}": f"a label map: whole numbers from {first} on, {count} different ones"},
    )
    assert len(scan_folder(Nifti(NiftiParams(root=tmp_path, layout="any")))[0]) == 1


@pytest.mark.parametrize("kind", SCANS)
def test_no_scan_is_taken_for_a_label_map(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "scan.nii.gz", SCANS[kind])
    assert len(scan_folder(Nifti(NiftiParams(root=tmp_path)))[0]) == 1


def test_a_label_map_that_was_stored_with_slope_and_intercept_is_one(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(blocks(3).astype(np.float64), np.eye(4))
    image.set_data_dtype(np.int16)  # nibabel scales to all of its range
    nibabel.save(image, tmp_path / "mask.nii.gz")
    assert nibabel.load(tmp_path / "mask.nii.gz").dataobj.slope != 1
    assert "4 different ones" in scan_folder(Nifti(NiftiParams(root=tmp_path)))[1]["mask.nii.gz"]


def test_a_damaged_file_is_no_label_map_but_damaged(tmp_path: Path) -> None:
    write(tmp_path / "mask.nii.gz", np.random.default_rng(0).integers(0, 2, (40, 40, 20)).astype(np.uint8))
    content = (tmp_path / "mask.nii.gz").read_bytes()
    (tmp_path / "mask.nii.gz").write_bytes(content[:-2000])
    (volume,), _ = scan_folder(Nifti(NiftiParams(root=tmp_path)))
    with pytest.raises(Exception, match="compressed data are damaged"):
        Nifti(NiftiParams(root=tmp_path)).read(volume)
