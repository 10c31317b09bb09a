from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from ctkit.contracts import Volume
from ctkit.contracts.judge import Judge
from ctkit.promises import check_volume
from ctkit_datasets.dicom_geometry import Plane
from ctkit_datasets.dicom_series import arrange_series
from ctkit_datasets.filters import SeriesParams
from dicom_facts import header

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Scan = Callable[..., tuple[list[Volume], dict[str, str]]]

HEAD_FIRST = ["1", "0", "0", "0", "1", "0"]


def names(volume: Volume) -> list[str]:
    return [volume.source(index) for index in range(len(volume))]


# --- order --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-500, 500), min_size=3, max_size=30, unique=True), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_slices_ascend_to_the_head_whatever_their_files_are_called(heights: list[int], random: Any) -> None:
    numbers = list(range(len(heights)))
    random.shuffle(numbers)
    headers = [header(f"{number}", float(height)) for number, height in zip(numbers, heights, strict=True)]
    (volume,) = arrange_series(headers, SeriesParams(root="."))
    assert isinstance(volume, Volume)
    expected = [str(number) for _, number in sorted(zip(heights, numbers, strict=True))]
    assert names(volume) == expected


def test_order_follows_the_normal_of_tilted_slices_and_the_tilt_is_noted(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    tilted = ["1", "0", "0", "0", "0.9396926", "-0.3420201"]
    write_slices(make_slice(z, ImageOrientationPatient=tilted) for z in (30.0, 10.0, 20.0, 0.0))
    (volume,), _ = scan()
    assert names(volume) == ["0003.dcm", "0001.dcm", "0002.dcm", "0000.dcm"]
    assert volume.notes == ("gantry tilt 20.0 degrees",)
    assert volume.spacing[2] == pytest.approx(10 * np.cos(np.radians(20)), abs=1e-4)


@pytest.mark.parametrize(("down", "note"), [(1.0, ()), (0.9396926, ("gantry tilt 20.0 degrees",))], ids=["", "tilted"])
def test_a_field_of_view_that_moves_in_mid_series_is_no_tilt(
    make_slice: Slices, write_slices: Write, scan: Scan, down: float, note: tuple[str, ...]
) -> None:
    cosines = ["1", "0", "0", "0", str(down), "-0.3420201" if note else "0"]
    write_slices(
        make_slice(
            z, ImageOrientationPatient=cosines, ImagePositionPatient=[str(-40 if z > 30 else -100), "-100", str(z)]
        )
        for z in np.arange(0.0, 80.0, 10.0).tolist()
    )
    (volume,), _ = scan()
    assert volume.notes == (*note, "field of view moves by 60 mm")


def test_positions_that_headers_round_lie_on_one_line(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    """Steps of 0.22 mm are rounded to 0.2 or 0.3, which alone tell another tilt."""
    write_slices(make_slice(k, ImagePositionPatient=["0", f"{0.2246 * k:.1f}", f"{0.617 * k:.3f}"]) for k in range(81))
    (volume,), _ = scan()
    assert volume.notes == ("gantry tilt 20.0 degrees",)


@pytest.mark.parametrize(
    ("cosines", "name"),
    [
        ((1, 0, 0, 0, 1, 0), "axial"),
        ((-1, 0, 0, 0, -1, 0), "axial"),
        ((0, 1, 0, 1, 0, 0), "axial"),
        ((1, 0, 0, 0, 0, -1), "coronal"),
        ((0, 0, 1, -1, 0, 0), "coronal"),
        ((0, 1, 0, 0, 0, -1), "sagittal"),
        ((0, 0, -1, 0, -1, 0), "sagittal"),
    ],
)
def test_a_stored_slice_is_put_upright(cosines: tuple[int, ...], name: str) -> None:
    plane = Plane.of(cosines)
    assert plane.name == name
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    i, j = np.mgrid[:3, :5]
    places = j[..., None] * row + i[..., None] * column  # of stored pixels, (3, 5, 3)
    upright = np.empty((5, 3, 3) if plane.turn.transpose else (3, 5, 3), int)
    for axis in range(3):
        plane.turn.stored_view(upright[..., axis])[...] = places[..., axis]
    down, right = upright[1, 0] - upright[0, 0], upright[0, 1] - upright[0, 0]
    expected = {
        "axial": ((0, 1, 0), (1, 0, 0)),
        "coronal": ((0, 0, -1), (1, 0, 0)),
        "sagittal": ((0, 0, -1), (0, 1, 0)),
    }
    assert (tuple(down), tuple(right)) == expected[name]


def test_a_slice_stored_turned_is_turned_and_its_spacing_with_it(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    pixels = np.arange(4 * 6, dtype=np.int16).reshape(4, 6)
    write_slices(
        make_slice(z, pixels + int(z), ImageOrientationPatient=["0", "1", "0", "1", "0", "0"]) for z in (0.0, 1.0, 2.0)
    )
    (volume,), _ = scan()
    assert (volume.rows, volume.columns) == (6, 4)
    assert volume.spacing == (0.5, 0.75, 1.0)
    assert volume.notes == ("stored rotated or mirrored; corrected",)


# --- groups -------------------------------------------------------------------------------------------------------


def test_series_in_one_folder_are_told_apart(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices(make_slice(z, SeriesInstanceUID=uid) for z in (0.0, 1.0, 2.0) for uid in ("1.2.1", "1.2.2"))
    volumes, skipped = scan()
    assert [volume.key for volume in volumes] == ["1.2.1", "1.2.2"]
    assert not skipped


def test_one_series_over_several_folders_is_one_volume(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices([make_slice(z) for z in (0.0, 1.0, 2.0)], ["a/1", "b/1", "a/2"])
    (volume,), _ = scan()
    assert names(volume) == ["a/1", "b/1", "a/2"]


def test_files_without_series_uid_belong_together_within_their_folder(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    slices = [make_slice(z, SeriesInstanceUID="", PatientID="", StudyInstanceUID="") for z in (0.0, 1.0, 2.0)] * 2
    write_slices(slices, [f"{folder}/{number}" for folder in "ab" for number in range(3)])
    volumes, _ = scan()
    assert [len(volume) for volume in volumes] == [3, 3]
    assert [volume.patient for volume in volumes] == ["a", "b"]
    assert len({volume.key for volume in volumes}) == 2


def test_slices_of_nobody_that_lie_in_no_folder_are_a_volume_of_an_unknown_patient(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    nameless = {"SeriesInstanceUID": "", "PatientID": "", "StudyInstanceUID": ""}
    write_slices([make_slice(z, **nameless) for z in (0.0, 1.0, 2.0)], ["a", "b", "c"])
    (volume,) = scan()[0]
    assert volume.patient == "unknown"
    check_volume(Judge("dicom"), volume)


def test_two_patients_with_the_same_series_uid_stay_apart(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices(make_slice(z, PatientID=patient) for patient in "ab" for z in (0.0, 1.0, 2.0))
    volumes, _ = scan()
    assert [volume.patient for volume in volumes] == ["a", "b"]
    assert len({volume.key for volume in volumes}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"ImageOrientationPatient": ["1", "0", "0", "0", "0.98", "-0.2"]},
        {"PixelSpacing": ["0.9", "0.9"]},
        {"RescaleIntercept": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_series_is_cut_where_its_slices_cannot_lie_in_one_volume(
    make_slice: Slices, write_slices: Write, scan: Scan, change: dict[str, Any]
) -> None:
    write_slices([*(make_slice(z) for z in (0.0, 1.0, 2.0)), *(make_slice(z, **change) for z in (3.0, 4.0, 5.0))])
    volumes, _ = scan()
    assert [volume.key for volume in volumes] == ["1.2.3.1.1", "1.2.3.1.1/2"]
    assert [len(volume) for volume in volumes] == [3, 3]


def test_a_series_of_two_matrices_is_two_volumes(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    small = np.arange(64, dtype=np.int16).reshape(8, 8)
    write_slices([*(make_slice(z) for z in (0.0, 1.0, 2.0)), *(make_slice(z, small) for z in (3.0, 4.0, 5.0))])
    volumes, _ = scan()
    assert [(volume.rows, len(volume)) for volume in volumes] == [(16, 3), (8, 3)]


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime"])
def test_passes_over_the_same_positions_become_volumes(
    make_slice: Slices, write_slices: Write, scan: Scan, keyword: str
) -> None:
    write_slices(make_slice(z, **{keyword: f"10000{number}"}) for z in (0.0, 1.0, 2.0, 3.0) for number in (1, 2))
    volumes, skipped = scan()
    assert [len(volume) for volume in volumes] == [4, 4]
    assert not skipped


def test_two_fields_of_view_at_the_same_heights_become_volumes(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    write_slices(make_slice(z, ImagePositionPatient=[x, "0", repr(z)]) for z in (0.0, 1.0, 2.0) for x in ("-90", "10"))
    volumes, _ = scan()
    assert [len(volume) for volume in volumes] == [3, 3]


def test_an_acquisition_number_for_each_slice_does_not_shatter_a_series(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    write_slices(make_slice(z, AcquisitionNumber=str(int(z))) for z in (0.0, 1.0, 2.0, 3.0, 3.0))
    (volume,), skipped = scan()
    assert len(volume) == 4
    assert skipped == {"0004.dcm": "duplicate: the same pixels as another slice of its series at the same height"}


def test_a_second_copy_of_a_series_is_left_out_file_by_file(
    make_slice: Slices, write_slices: Write, scan: Scan
) -> None:
    write_slices(
        [make_slice(z) for z in (0.0, 1.0, 2.0)] * 2, [f"{folder}/{number}" for folder in "ab" for number in range(3)]
    )
    (volume,), skipped = scan()
    assert names(volume) == ["a/0", "a/1", "a/2"]
    assert set(skipped) == {"b/0", "b/1", "b/2"}
    assert volume.notes == ("duplicates skipped: 3",)


# --- notes --------------------------------------------------------------------------------------------------------


def volume_at(heights: Iterable[float], **facts: Any) -> Volume:
    (volume,) = arrange_series([header(f"{z:09.3f}", z, **facts) for z in heights], SeriesParams(root="."))
    assert isinstance(volume, Volume)
    return volume


@pytest.mark.parametrize(
    ("heights", "notes"),
    [
        ([0, 2.5, 5, 7.5], ()),
        ([0, 2.5, 5.001, 7.499], ()),
        ([0, 2.5, 5, 12.5, 15], ("slices missing: 2, gaps: 1",)),
        ([0, 1, 2, 4, 5, 7, 8], ("slices missing: 2, gaps: 2",)),
        ([0, 4, 8, 12, 19, 26], ("uneven spacing 4 to 7 mm",)),
        ([0, 1, 2, 3, 4.3, 5.3, 8.3], ("slices missing: 2, gaps: 1", "uneven spacing 1 to 1.3 mm")),
    ],
)
def test_gaps_and_uneven_spacing_are_measured(heights: list[float], notes: tuple[str, ...]) -> None:
    assert volume_at(heights).notes == notes


def test_spacing_is_that_of_columns_rows_and_the_median_of_slices() -> None:
    assert volume_at([0, 2.5, 5, 7.5, 30], spacing=[0.7, 0.6]).spacing == (0.6, 0.7, 2.5)
    assert volume_at([0, 2.5, 5], spacing=None).spacing == (None, None, 2.5)


def test_mixed_thickness_is_noted(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices(make_slice(z, SliceThickness=mm) for z, mm in ((0.0, "4"), (4.0, "4"), (8.0, "7")))
    (volume,), _ = scan()
    assert volume.notes == ("slice thickness 4 to 7 mm",)


# --- what is left out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Modality": "PT"}, "modality PT"),
        ({"Modality": "SEG"}, "modality SEG"),
        ({"Modality": "MR"}, "modality MR"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser (image type LOCALIZER)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}, "reformat (image type REFORMATTED)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MPR"]}, "reformat (image type CT_SOM5 MPR)"),
        ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "dose page (image type DOSE_INFO)"),
        ({"ImagePositionPatient": None}, "no image position or orientation"),
        ({"ImageOrientationPatient": None}, "no image position or orientation"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour image"),
        ({"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]}, "coronal slices"),
        ({"ImageOrientationPatient": ["0", "1", "0", "0", "0", "-1"]}, "sagittal slices"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_axial_ct_slice_is_left_out_with_the_reason(
    make_slice: Slices, write_slices: Write, scan: Scan, changes: dict[str, Any], reason: str
) -> None:
    write_slices(make_slice(z, **changes) for z in (0.0, 1.0, 2.0))
    assert scan() == ([], dict.fromkeys(("0000.dcm", "0001.dcm", "0002.dcm"), reason))


@pytest.mark.parametrize(
    ("bits", "reason"),
    [(32, "32 bits a pixel; 8 and 16 can be read")],
)
def test_a_depth_that_no_ct_has_is_left_out(
    make_slice: Slices, write_slices: Write, scan: Scan, bits: int, reason: str
) -> None:
    write_slices(make_slice(z, np.arange(16, dtype=f"i{bits // 8}").reshape(4, 4)) for z in (0.0, 1.0, 2.0))
    assert set(scan()[1].values()) == {reason}


def test_several_frames_without_positions_are_left_out(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices([make_slice(0.0, np.zeros((32, 16), np.int16), Rows=16, NumberOfFrames="2")])
    assert scan() == ([], {"0000.dcm": "several frames without a position each"})


def test_slices_marked_derived_or_secondary_are_used(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices(make_slice(z, ImageType=["DERIVED", "SECONDARY", "AXIAL"]) for z in (0.0, 1.0, 2.0))
    assert len(scan()[0]) == 1


# --- filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "keys"),
    [
        ({}, ["soft", "sharp", "thick"]),
        ({"kernel": ["B3*"]}, ["soft", "thick"]),
        ({"kernel": ["b70F"]}, ["sharp"]),
        ({"thickness": (0, 2.5)}, ["soft", "sharp"]),
        ({"thickness": (3, 10)}, ["thick"]),
        ({"body_part": ["abd*"]}, ["thick"]),
        ({"image_type": ["original"]}, ["soft", "thick"]),
        ({"not_image_type": ["DERIVED"]}, ["soft", "thick"]),
        ({"min_slices": 4}, ["sharp"]),
        ({"max_volumes": 2}, ["soft", "sharp"]),
        ({"max_patients": 1}, ["soft", "sharp"]),
        ({"include": ["*/s*"]}, ["soft", "sharp"]),
        ({"exclude": ["*/so*", "*thick*"]}, ["sharp"]),
        ({"same_scan": "largest"}, ["sharp", "thick"]),
        ({"modality": ["MR"]}, []),
        ({"orientation": "coronal"}, []),
    ],
    ids=str,
)
def test_filters_choose_volumes(
    make_slice: Slices, write_slices: Write, scan: Scan, params: dict[str, Any], keys: list[str]
) -> None:
    def series(name: str, heights: Iterable[float], **changes: Any) -> list[Dataset]:
        return [make_slice(z, SeriesInstanceUID=name, **changes) for z in heights]

    soft = series("1.1", (0.0, 1.0, 2.0))
    sharp = series(
        "1.2", (0.0, 0.5, 1.0, 1.5, 2.0), ConvolutionKernel="B70f", ImageType=["DERIVED", "PRIMARY", "AXIAL"]
    )
    thick = series("1.3", (0.0, 5.0, 10.0), SliceThickness="5", BodyPartExamined="ABDOMEN", PatientID="another")
    files = {"a/soft": soft, "a/sharp": sharp, "b/thick": thick}
    for folder, slices in files.items():
        write_slices(slices, [f"{folder}/{number}" for number in range(len(slices))])
    order = {"1.1": "soft", "1.2": "sharp", "1.3": "thick"}
    volumes, _ = scan(**params)
    assert sorted((order[volume.key] for volume in volumes), key=list(order.values()).index) == keys


def test_copies_in_another_transfer_syntax_are_one_scan(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    plain = [make_slice(z, SeriesInstanceUID="1.1") for z in (0.0, 1.0, 2.0)]
    copies = [make_slice(z, SeriesInstanceUID="1.2") for z in (0.0, 1.0, 2.0)]
    for copy in copies:
        copy.compress("1.2.840.10008.1.2.5")
    write_slices([*plain, *copies])
    (volume,), skipped = scan(same_scan="largest")
    assert volume.key == "1.1"
    assert set(skipped.values()) == {"another reconstruction or copy of the same scan is used"}


def test_phases_of_one_study_are_not_one_scan(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    write_slices(
        make_slice(z, SeriesInstanceUID=f"1.{phase}", AcquisitionNumber=str(phase))
        for phase in (1, 2)
        for z in (0.0, 1.0, 2.0)
    )
    assert len(scan(same_scan="largest")[0]) == 2


def test_a_range_of_thickness_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be the smallest and the largest thickness in mm, but is \[5.0, 1.0\]"):
        SeriesParams(root=".", thickness=(5, 1))


def test_a_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be a folder, but is a file"):
        SeriesParams(root=tmp_path / "file")
