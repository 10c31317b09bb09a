from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import JPEG2000Lossless, RLELossless, SegmentationStorage

from ctkit.contracts import Skipped, SourceFile
from ctkit_datasets.dicom_header import inspect_file

Inspect = Callable[..., Mapping[str, Any] | Skipped]


@pytest.fixture
def inspect(tmp_path: Path) -> Inspect:
    """Writes a slice, lets its bytes be damaged, and inspects the file."""

    def inspect(data: Dataset | bytes, damage: Callable[[bytes], bytes] = bytes) -> Mapping[str, Any] | Skipped:
        path = tmp_path / "file"
        if isinstance(data, Dataset):
            data.save_as(path, enforce_file_format=True)
            data = path.read_bytes()
        path.write_bytes(damage(data))
        found = inspect_file(tmp_path, SourceFile("file", path.stat().st_size, 0))
        json.dumps(found.reason if isinstance(found, Skipped) else dict(found))
        return found

    return inspect


def reason(found: Mapping[str, Any] | Skipped) -> str:
    assert isinstance(found, Skipped), found
    return found.reason


def test_facts_are_what_the_header_says(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    facts = inspect(make_slice(7.5, PixelPaddingValue=-2000, AcquisitionNumber="3"))
    assert not isinstance(facts, Skipped)
    assert facts["series"]["series"] == "1.2.3.1.1"
    assert facts["series"]["image_type"] == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (facts["storage"]["rows"], facts["storage"]["columns"], facts["storage"]["signed"]) == (16, 16, True)
    (only,) = facts["slices"]
    assert only["position"] == [-8, -8, 7.5]
    assert (only["slope"], only["intercept"], only["padding"]) == (1.0, -1024.0, [-2000, -2000])
    assert (only["spacing"], only["thickness"]) == ([0.5, 0.75], 2.5)
    assert only["marks"] == {"kernel": "B30f", "acquisition": 3.0}


def test_padding_that_is_labelled_unsigned_follows_the_sign_of_the_pixels(
    make_slice: Callable[..., Dataset], inspect: Inspect
) -> None:
    data = make_slice()
    data.add_new("PixelPaddingValue", "US", 63536)
    data.add_new("PixelPaddingRangeLimit", "US", 63436)
    facts = inspect(data)
    assert not isinstance(facts, Skipped)
    assert facts["slices"][0]["padding"] == [-2100, -2000]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"Rows": 0}, "damaged header: an image without pixels", id="no rows"),
        pytest.param({"Rows": None}, "damaged header: no Rows", id="rows absent"),
        pytest.param(
            {"Rows": 65535, "Columns": 65535, "NumberOfFrames": "65535"},
            "header claims 65535 x 65535 pixels, more than any CT has",
            id="absurd matrix",
        ),
        pytest.param({"Rows": 600}, "truncated: 512 of 19,200 bytes of pixels are there", id="too few pixels"),
        pytest.param(
            {"NumberOfFrames": "999999"}, "truncated: 512 of 511,999,488 bytes of pixels are there", id="frames"
        ),
        pytest.param(
            {"BitsStored": 20, "HighBit": 19},
            "damaged header: bits stored, high bit and bits allocated contradict each other",
            id="bits",
        ),
        pytest.param(
            {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
            "damaged header: ImageOrientationPatient must be two perpendicular unit vectors",
            id="orientation",
        ),
        pytest.param(
            {"ImagePositionPatient": ["0", "0"]},
            "damaged header: ImagePositionPatient must be 3 numbers up to 1000000",
            id="position of two numbers",
        ),
        pytest.param(
            {"ImagePositionPatient": ["0", "0", "1e30"]},
            "damaged header: ImagePositionPatient must be 3 numbers up to 1000000",
            id="position beyond the moon",
        ),
        pytest.param({"RescaleSlope": "0"}, "damaged header: RescaleSlope is 0", id="slope"),
        pytest.param(
            {"NumberOfFrames": "0", "Rows": 8},
            "damaged header: more pixels than the one frame of NumberOfFrames",
            id="no frames, but two",
        ),
    ],
)
def test_a_header_that_cannot_be_right_is_refused_with_the_reason(
    make_slice: Callable[..., Dataset], inspect: Inspect, changes: dict[str, Any], expected: str
) -> None:
    assert reason(inspect(make_slice(**changes))) == expected


def test_text_where_a_number_should_be_is_named(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    found = inspect(make_slice(12.25), lambda data: data.replace(b"12.25", b"Meier"))
    assert reason(found) == "damaged header: ImagePositionPatient is not a number"


UNKNOWN = " is damaged, so it is unknown"


@pytest.mark.parametrize(
    ("tag", "value", "fact", "expected", "note"),
    [
        (0x00180050, b"1.25mm", "thickness", None, "SliceThickness" + UNKNOWN),  # pydicom #173, ITK PR #6639
        (0x00180050, b"5\\5 ", "thickness", None, "SliceThickness" + UNKNOWN),
        (0x00180050, b"2,5 ", "thickness", 2.5, ""),
        (0x00180050, b"1,000,5 ", "thickness", None, "SliceThickness" + UNKNOWN),
        (0x00180050, b"1e30", "thickness", None, "SliceThickness" + UNKNOWN),
        (0x00180050, b"NaN ", "thickness", None, "SliceThickness" + UNKNOWN),
        (0x00280030, b"0.7 ", "spacing", None, "PixelSpacing" + UNKNOWN),  # cornerstoneWADOImageLoader #28
        (0x00280030, b"0,7\\0,7 ", "spacing", [0.7, 0.7], ""),
        (0x00280030, b"\\ ", "spacing", None, "PixelSpacing" + UNKNOWN),
        (0x00280030, b"0\\-1", "spacing", None, "PixelSpacing" + UNKNOWN),
        (0x00281053, b"1\\1 ", "slope", 1.0, "RescaleSlope is given twice, with the same value"),
        (0x00281052, b"-1024,0 ", "intercept", -1024.0, ""),
        (0x00280008, b"0 ", "slope", 1.0, "NumberOfFrames is 0, taken as 1"),  # pydicom #1844
        (0x00280008, b"one ", "slope", 1.0, "NumberOfFrames" + UNKNOWN),
        (0x00200032, b"-8,5\\-8,5\\2,5 ", "position", [-8.5, -8.5, 2.5], ""),
        (0x00180060, b"120kV ", "marks", {"kernel": "B30f"}, ""),
        (0x00200013, b"first ", "marks", {"kernel": "B30f"}, ""),
    ],
    ids=str,
)
def test_a_number_that_a_slice_can_do_without_costs_no_file(
    make_slice: Callable[..., Dataset], inspect: Inspect, tag: int, value: bytes, fact: str, expected: Any, note: str
) -> None:
    data = make_slice()
    data[tag] = RawDataElement(BaseTag(tag), "DS", len(value), value, 0, False, True)
    facts = inspect(data)
    assert not isinstance(facts, Skipped), facts
    assert facts["slices"][0][fact] == expected
    assert facts["slices"][0]["notes"] == [note] * bool(note)


def test_direction_cosines_that_are_a_little_off_are_put_right(
    make_slice: Callable[..., Dataset], inspect: Inspect
) -> None:
    facts = inspect(make_slice(ImageOrientationPatient=["1.03", "0", "0", "0.03", "0.98", "0"]))
    assert not isinstance(facts, Skipped)
    np.testing.assert_allclose(facts["slices"][0]["orientation"], [1, 0, 0, 0, 1, 0], atol=1e-9)
    assert facts["slices"][0]["notes"] == ["direction cosines were not perpendicular unit vectors; corrected"]


@pytest.mark.parametrize("syntax", ["1.2.840.113619.5.2", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.6.1"])
def test_a_transfer_syntax_that_is_not_known_is_named(
    make_slice: Callable[..., Dataset], inspect: Inspect, syntax: str
) -> None:
    data = make_slice()
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"  # dicomParser #107, fo-dicom #749
    plain, other = (f"UI\x14\0{uid}".ljust(24, "\0").encode() for uid in (data.file_meta.TransferSyntaxUID, syntax))
    named = inspect(data, lambda whole: whole.replace(plain, other[:2] + bytes([len(other) - 4, 0]) + other[4:]))
    assert reason(named) == f"unknown transfer syntax {syntax}"


def test_no_text_in_place_of_a_transfer_syntax_is_told(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    found = inspect(make_slice(), lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"DOE^JANE 19991231\0\0\0"))
    assert reason(found) == "unknown transfer syntax of a damaged name"


@pytest.mark.parametrize("kept", [0.1, 0.9, 0.999])
def test_a_truncated_file_is_found_without_decoding(
    make_slice: Callable[..., Dataset], inspect: Inspect, kept: float
) -> None:
    pixels = np.zeros((16, 16), np.int16)
    found = inspect(make_slice(0.0, pixels), lambda data: data[: len(data) - int(512 * (1 - kept)) - 1])
    assert reason(found).startswith("truncated: ")


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_truncated_compressed_pixels_are_found_without_decoding(
    make_slice: Callable[..., Dataset], inspect: Inspect, syntax: str
) -> None:
    data = make_slice(0.0, np.arange(64 * 64, dtype=np.int16).reshape(64, 64))
    data.compress(syntax)
    assert not isinstance(inspect(data), Skipped)
    cut = inspect(data, lambda data: data[:-50])
    assert reason(cut) == "truncated: the last fragment of compressed pixels is incomplete"


def test_a_few_compressed_bytes_that_claim_many_pixels_are_refused(
    make_slice: Callable[..., Dataset], inspect: Inspect
) -> None:
    data = make_slice()
    data.compress(RLELossless)
    data.Rows = data.Columns = 4096
    assert reason(inspect(data)).startswith("header claims 33,554,432 bytes of pixels, compressed to ")


def test_files_without_pixels_are_named_by_what_they_are(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    report = make_slice(Modality="SR")
    del report.PixelData
    assert reason(inspect(report)) == "no pixel data (modality SR)"
    assert reason(inspect(b"not a picture")) == "not a DICOM file"


def test_a_file_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    found = inspect_file(tmp_path, SourceFile("gone", 10, 0))
    assert reason(found) == "cannot be opened: No such file or directory"


def test_a_folder_that_the_walk_could_not_enter_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    assert reason(inspect_file(tmp_path, SourceFile("locked", 0, 0))) == "a folder that cannot be listed"


def test_reasons_hold_nothing_of_the_patient(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    modality = make_slice(Modality="CT")
    del modality.PixelData
    found = inspect(modality, lambda data: data.replace(b"CS\x02\x00CT", b"CS\x02\x00m\xfc"))
    assert reason(found) == "no pixel data (modality unknown)"


def test_the_cached_facts_hold_no_name_and_no_date(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    facts = inspect(make_slice(AcquisitionDate="19991231", AcquisitionTime="235959"))
    assert "Secret" not in str(facts)
    assert "1999" not in str(facts)


def enhanced(make_slice: Callable[..., Dataset], heights: list[float]) -> Dataset:
    """An enhanced CT: one file, a frame at each height, slope and intercept shared."""
    pixels = np.arange(len(heights) * 64, dtype=np.int16).reshape(-1, 8)
    data: Dataset = make_slice(0.0, pixels, Rows=8, NumberOfFrames=str(len(heights)), SOPClassUID=CT_ENHANCED)
    shared, frames = Dataset(), []
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(data, name)
    for name in ("RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = ["0.5", "0.5"]
    shared.PixelMeasuresSequence[0].SliceThickness = "1.5"
    shared.PixelValueTransformationSequence = [Dataset()]
    shared.PixelValueTransformationSequence[0].RescaleSlope = "1"
    shared.PixelValueTransformationSequence[0].RescaleIntercept = "-1000"
    shared.PixelValueTransformationSequence[0].RescaleType = "HU"
    for height in heights:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = ["0", "0", repr(height)]
        frame.FrameContentSequence = [Dataset()]
        frame.FrameContentSequence[0].FrameAcquisitionNumber = 1
        frames.append(frame)
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return data


CT_ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"


@pytest.mark.parametrize("undefined", [False, True], ids=["lengths", "undefined lengths"])
def test_the_frames_of_an_enhanced_image_get_their_functional_groups(
    make_slice: Callable[..., Dataset], inspect: Inspect, undefined: bool
) -> None:
    data = enhanced(make_slice, [3.0, 1.0, 2.0])
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        data[name].is_undefined_length = undefined
        for item in data[name].value:
            item.is_undefined_length_sequence_item = undefined
    facts = inspect(data)
    assert not isinstance(facts, Skipped)
    assert [slice_["position"][2] for slice_ in facts["slices"]] == [3.0, 1.0, 2.0]
    assert {slice_["intercept"] for slice_ in facts["slices"]} == {-1000.0}
    assert {slice_["thickness"] for slice_ in facts["slices"]} == {1.5}


def test_an_enhanced_image_with_too_few_positions_is_refused(
    make_slice: Callable[..., Dataset], inspect: Inspect
) -> None:
    data = enhanced(make_slice, [1.0, 2.0, 3.0])
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:2]
    assert reason(inspect(data)) == "damaged header: 3 frames, but positions for 2"


def test_a_segmentation_keeps_its_modality(make_slice: Callable[..., Dataset], inspect: Inspect) -> None:
    facts = inspect(make_slice(Modality="SEG", SOPClassUID=SegmentationStorage))
    assert not isinstance(facts, Skipped)
    assert facts["series"]["modality"] == "SEG"
