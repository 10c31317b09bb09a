from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from ctkit.errors import DataError
from ctkit_datasets.dicom_elements import (
    DEFLATED,
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Header,
    inflate,
    read_header,
)

WANTED = frozenset(
    {0x00080008, 0x00080060, 0x00100020, 0x0020000E, 0x00200032, 0x00280010, 0x00280011, 0x00280100, 0x00281053}
)


def header_of(data: bytes) -> Header:
    return read_header(io.BytesIO(data), len(data), WANTED)


def with_preamble(data_set: bytes, syntax: str) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid + data_set


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


PIXELS = implicit(0x7FE00010, b"\1\2\3\4")


def assert_as_pydicom(path: Path) -> None:
    """Compare every wanted element, and where the pixels are, with pydicom."""
    with path.open("rb") as file:
        found = read_header(file, path.stat().st_size, WANTED)
        data = b"".join(inflate(file, found.size)) if found.syntax == DEFLATED else path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these files are broken on purpose
        expected = pydicom.dcmread(path, force=True)
        raw = {tag: expected.get_item(tag).value for tag in WANTED if tag in expected}
        pixels = expected.get_item(0x7FE00010).value if "PixelData" in expected else None
    trimmed = {tag: value.strip(b"\0 ") for tag, value in found.values.items() if value.strip(b"\0 ")}
    assert trimmed == {tag: value.strip(b"\0 ") for tag, value in raw.items() if value and value.strip(b"\0 ")}
    assert (found.pixels_at is None) == (pixels is None)
    if pixels is not None:
        length = min(len(pixels), 64) if found.pixels_length == UNDEFINED_LENGTH else found.pixels_length
        assert data[found.pixels_at :][:length] == pixels[:length]


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "ExplVR_BigEndNoMeta.dcm",
        "ExplVR_LitEndNoMeta.dcm",
        "JPEG2000-embedded-sequence-delimiter.dcm",
        "JPEG2000.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "SC_rgb_rle_2frame.dcm",
        "UN_sequence.dcm",
        "badVR.dcm",
        "image_dfl.dcm",
        "liver_1frame.dcm",
        "meta_missing_tsyntax.dcm",
        "nested_priv_SQ.dcm",
        "no_meta_group_length.dcm",
        "priv_SQ.dcm",
        "reportsi.dcm",
        "rtdose_rle.dcm",
        "waveform_ecg.dcm",
    ],
)
def test_odd_files_read_as_pydicom_reads_them(name: str) -> None:
    path = Path(pydicom.data.__file__).parent / "test_files" / name
    if not path.exists():
        pytest.skip("this release of pydicom brings no such file")
    assert_as_pydicom(path)


@pytest.mark.real
def test_real_files_read_as_pydicom_reads_them(real_data: Path) -> None:
    paths = [path for path in real_data.rglob("*") if path.is_file() and path.read_bytes()[128:132] == b"DICM"]
    for path in paths[::9]:
        assert_as_pydicom(path)
    assert len(paths) > 300


def test_a_header_longer_than_the_first_bytes_that_are_read_is_found_whole() -> None:
    data_set = implicit(0x00090010, b"x" * 100_000) + implicit(0x00280010, b"\7\0") + PIXELS
    header = header_of(with_preamble(data_set, IMPLICIT_LITTLE))
    assert header.values == {0x00280010: b"\7\0"}
    assert header.size - (header.pixels_at or 0) == header.pixels_length == 4


def test_elements_inside_sequences_are_not_taken_for_those_of_the_image() -> None:
    item = implicit(0xFFFEE000, implicit(0x00280010, b"\1\0") + implicit(0xFFFEE00D, b""), UNDEFINED_LENGTH)
    sequence = implicit(0x00081140, item + implicit(0xFFFEE0DD, b""), UNDEFINED_LENGTH)
    header = header_of(with_preamble(sequence + implicit(0x00280010, b"\2\0") + PIXELS, IMPLICIT_LITTLE))
    assert header.values == {0x00280010: b"\2\0"}


def test_an_element_without_vr_in_the_middle_of_an_explicit_file_is_read() -> None:
    explicit = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    header = header_of(with_preamble(explicit + implicit(0x00280010, b"\2\0") + PIXELS, "1.2.840.10008.1.2.1"))
    assert header.values == {0x00080060: b"CT", 0x00280010: b"\2\0"}


def test_the_data_set_is_believed_rather_than_a_wrong_transfer_syntax() -> None:
    header = header_of(with_preamble(implicit(0x00280010, b"\2\0") + PIXELS, "1.2.840.10008.1.2.1"))
    assert header.coding.implicit
    assert header.values == {0x00280010: b"\2\0"}


def test_big_endian_is_recognised_without_meta_information() -> None:
    data_set = struct.pack(">HH2sH", 0x0008, 0x0060, b"CS", 2) + b"CT"
    assert header_of(data_set).syntax == EXPLICIT_BIG


def too_deep() -> bytes:
    return implicit(0x00081140, b"", UNDEFINED_LENGTH) + implicit(0xFFFEE000, b"", UNDEFINED_LENGTH)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "not a DICOM file", id="empty"),
        pytest.param(b"<?xml version='1.0'?>" * 20, "not a DICOM file", id="xml"),
        pytest.param(
            with_preamble(implicit(0x00280010, b"\2\0", 4_000_000_000), IMPLICIT_LITTLE),
            "damaged header: an element reaches beyond the end of the file",
            id="a length beyond the file",
        ),
        pytest.param(
            with_preamble(implicit(0x00081140, b"\0" * 8, UNDEFINED_LENGTH), IMPLICIT_LITTLE),
            "damaged header: a sequence holds something that is no item",
            id="a sequence of no items",
        ),
        pytest.param(
            with_preamble(too_deep() * 100, IMPLICIT_LITTLE),
            "damaged header: sequences nested too deeply",
            id="nested too deeply",
        ),
        pytest.param(
            with_preamble(b"\xff" * 500, DEFLATED),
            "damaged: the data set cannot be inflated",
            id="not deflated",
        ),
        pytest.param(
            with_preamble(zlib.compress(b"\0" * 10_000_000, wbits=-15), DEFLATED),
            "damaged: the data set inflates to more than 100 times its size",
            id="a deflate bomb",
        ),
    ],
)
def test_what_is_no_header_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DataError) as raised:
        header_of(data)
    assert str(raised.value) == reason


def test_a_length_of_gigabytes_takes_no_memory() -> None:
    class Counting(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            self.asked = max(self.asked, size)
            return super().read(size)

    data = with_preamble(implicit(0x00280010, b"\2\0", 4_000_000_000), IMPLICIT_LITTLE)
    file = Counting(data)
    with pytest.raises(DataError):
        read_header(file, len(data), WANTED)
    assert file.asked <= len(data)
