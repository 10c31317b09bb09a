from __future__ import annotations

import base64
import os
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from ctkit.contracts import Pixels, Volume
from ctkit.errors import DataError
from ctkit_datasets.dicom_pixels import AIR, read_blocks, read_volume
from ctkit_datasets.dicom_slices import Encoding

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Scan = Callable[..., tuple[list[Volume], dict[str, str]]]
Read = Callable[..., Pixels]

HEIGHTS = (0.0, 1.0, 2.0)


@pytest.fixture
def read(tmp_path: Path, scan: Scan) -> Read:
    """Reads the only volume below ``tmp_path / "data"``."""

    def read(wanted: NDArray[np.int64] | None = None, **params: Any) -> Pixels:
        (volume,), _ = scan(**params)
        return read_volume(tmp_path / "data", volume, wanted)

    return read


def stored_values(dtype: Any, low: int, high: int, side: int = 16) -> list[NDArray[Any]]:
    return [np.random.default_rng(seed).integers(low, high, (side, side)).astype(dtype) for seed in range(3)]


# --- transfer syntaxes --------------------------------------------------------------------------------------------


def write_native(data: Dataset, path: Path, syntax: str) -> None:
    data.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    if big:
        data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
    pydicom.dcmwrite(
        path, data, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not big, enforce_file_format=True
    )


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_uncompressed_pixels_are_read(make_slice: Slices, tmp_path: Path, read: Read, syntax: str) -> None:
    stored = stored_values(np.int16, -1000, 3000)
    (tmp_path / "data").mkdir()
    for number, (z, pixels) in enumerate(zip(HEIGHTS, stored, strict=True)):
        write_native(make_slice(z, pixels), tmp_path / "data" / str(number), syntax)
    pixels = read()
    assert pixels.unit == "HU"
    assert pixels.values.dtype == np.int16
    np.testing.assert_array_equal(pixels.values, np.stack(stored) - 1024)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("dtype", "low"), [(np.int16, -1024), (np.uint16, 0)], ids=["signed", "unsigned"])
def test_what_pydicom_compresses_is_read(
    make_slice: Slices, write_slices: Write, read: Read, syntax: str, dtype: Any, low: int
) -> None:
    stored = stored_values(dtype, low, 3000, side=64)
    slices = [make_slice(z, pixels) for z, pixels in zip(HEIGHTS, stored, strict=True)]
    for data in slices:
        data.compress(syntax)
    write_slices(slices)
    np.testing.assert_array_equal(read().values, np.stack(stored).astype(np.int16) - 1024)


@pytest.mark.parametrize(
    "syntax",
    ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"],
)
@pytest.mark.parametrize("bits", [12, 16])
def test_what_gdcm_compresses_is_read(
    make_slice: Slices, write_slices: Write, read: Read, syntax: str, bits: int
) -> None:
    stored = stored_values(np.uint16, 0, 1 << 12, side=64)
    paths = write_slices(make_slice(z, pixels, BitsStored=bits) for z, pixels in zip(HEIGHTS, stored, strict=True))
    for path in paths:
        compress_with_gdcm(path, syntax)
    np.testing.assert_array_equal(read().values, np.stack(stored).astype(np.int16) - 1024)


#: ``htj2k_slice()`` as imagecodecs 2026.3.6 encodes it losslessly; none of the test dependencies can.
HTJ2K_STREAM = base64.b85decode(
    b"|4;u>04YEK0000O0000G00000000000000O0000G0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&kdTm&kdT"
    b"mwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00001wEzMClfVEbVfqCJbO68r5`d5bhjakI0206e6F>kGfHDFHbO3C)0s(XYngIuN0"
    b"Kfnh&;SKo00CM-CFxF8hK~FILj!uY06=JXT<h*3fc~`rfUtlTWsu+i5rMvz0KfnjO#lE}Z~z6i*Y$b<!w`AsNeR;7{r_HGuU9U(J2M~Xco~w"
    b"K=K`p-"
    b"VT6dWxd0l7EsEGMmLaCN2Cxjs1Yake%zzw=h$w@Y0B$6fcsK@hM+E=?4!<+Pw?~Yj{(v1Q7=V`mzyL3LfB;>*00Qa2RclpMRaJG|aRn8qCjC"
    b"~*R6rRqT0_-ZRaF&KP!ELt*Hb|S@WNX`1=5GNY0+1;R#jC66~GH`1r=0K0lZ~VfeOG2E&K4-"
    b"tW{H0feE<u8x@#91uC%BZ6l!$uscmZ{s0jOOV(c^s5{nP5ydZAatsBw7?f%;xdGrP3LJ38_!9LSz=1zrBm+@cg1H2Pk)e8t_!aF#!|OB!2jR"
    b"qZVF(_}5Wvn@3LrO*F@f$l0fGw_oWX+!8~h*ak6-@$;lTj->olMc%OwDClm*uWARosVfTlD7|Je"
)


def htj2k_slice() -> NDArray[np.uint16]:
    row, column = np.mgrid[:16, :24]
    return ((row * 37 + column * column * 11) % 1800 + (row * column) % 256).astype(np.uint16)


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL], ids=lambda syntax: syntax.name)
def test_high_throughput_jpeg_2000_is_read(make_slice: Slices, write_slices: Write, read: Read, syntax: str) -> None:
    slices = [make_slice(z, htj2k_slice() + number) for number, z in enumerate(HEIGHTS)]
    slices[0].PixelData = encapsulate([HTJ2K_STREAM])
    slices[0].file_meta.TransferSyntaxUID = syntax
    write_slices(slices)
    expected = [htj2k_slice().astype(np.int16) + number - 1024 for number in range(3)]
    np.testing.assert_array_equal(read().values, np.stack(expected))


def compress_with_gdcm(path: Path, syntax: str) -> None:
    """Rewrite a file in another transfer syntax, by its name in GDCM."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_a_missing_decoder_is_named_with_its_package(
    make_slice: Slices, write_slices: Write, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydicom.pixels.decoders import JPEG2000LosslessDecoder

    slices = [make_slice(z, pixels) for z, pixels in zip(HEIGHTS, stored_values(np.int16, 0, 9, side=64), strict=True)]
    for data in slices:
        data.compress(JPEG2000Lossless)
    write_slices(slices)
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    with pytest.raises(DataError) as raised:
        read()
    assert str(raised.value) == (
        "no slice of the volume can be read: JPEG 2000 Image Compression (Lossless Only) needs other packages: "
        "pip install pylibjpeg pylibjpeg-openjpeg"
    )


@pytest.mark.parametrize(
    ("syntax", "rows"),
    [
        ("JPEG2000Lossless", b"\xff\x4f\xff\x51"),
        ("JPEGLSLossless", b"\xff\xf7"),
        ("JPEGLosslessProcess14_1", b"\xff\xc3"),
    ],
)
def test_a_stream_that_claims_another_matrix_than_its_header_is_not_decoded(
    make_slice: Slices, write_slices: Write, read: Read, syntax: str, rows: bytes
) -> None:
    stored = stored_values(np.uint16, 0, 4096, side=64)
    paths = write_slices(make_slice(z, pixels) for z, pixels in zip(HEIGHTS, stored, strict=True))
    for path in paths:
        compress_with_gdcm(path, syntax)
    data = bytearray(paths[1].read_bytes())
    start = data.index(rows)
    place = start + (12 if syntax == "JPEG2000Lossless" else 5)
    data[place : place + 2] = b"\xff\xff"
    paths[1].write_bytes(data)
    pixels = read()
    assert pixels.skipped == (
        (1, "damaged pixels: the compressed slice has another matrix or depth than in the header"),
    )
    np.testing.assert_array_equal(pixels.index, [0, 2])


# --- meaning ------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from([np.int16, np.uint16, np.int8, np.uint8]),
    st.integers(2, 16),
    st.sampled_from([1.0, 0.5, 2.0, 1.25, 0.1, 100.0, -1.0]),
    st.integers(-4096, 4096).map(float) | st.sampled_from([0.5, -40000.0, 40000.0, -1024.25]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150)
def test_rescaling_is_exact_then_rounded_and_clipped(
    dtype: Any, stored_bits: int, slope: float, intercept: float, seed: int
) -> None:
    allocated = np.dtype(dtype).itemsize * 8
    bits = min(stored_bits, allocated)
    signed = np.dtype(dtype).kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(seed).integers(low, high, (6, 6), endpoint=True).astype(dtype)
    values[0, 0], values[0, -1] = low, high
    exact = np.clip(np.rint(values.astype(np.float64) * slope + intercept), -32768, 32767)
    assume(len({exact[i, j] for i in (0, -1) for j in (0, -1)}) > 1)  # or it may be padding
    np.testing.assert_array_equal(hounsfield(values, slope, intercept, bits), exact)


def encoding(dtype: Any, **changes: Any) -> Encoding:
    bits = np.dtype(dtype).itemsize * 8
    plain = {
        "syntax": ExplicitVRLittleEndian, "order": "<", "rows": 0, "columns": 0, "frames": 1, "samples": 1,
        "photometric": "MONOCHROME2", "bits": bits, "stored": bits, "high": bits - 1,
        "signed": np.dtype(dtype).kind == "i", "hounsfield": True, "slope": 1.0, "intercept": 0.0, "padding": None,
    }  # fmt: skip
    return Encoding(**plain | changes)


def hounsfield(values: NDArray[Any], slope: float, intercept: float, bits: int) -> NDArray[np.int16]:
    from ctkit_datasets.dicom_pixels import to_hounsfield

    out = np.empty(values.shape, np.int16)
    meaning = encoding(values.dtype, slope=slope, intercept=intercept, stored=bits, high=bits - 1)
    to_hounsfield(values.copy(), meaning, out)
    return out


def test_slopes_may_differ_between_slices(make_slice: Slices, write_slices: Write, read: Read) -> None:
    stored = stored_values(np.int16, 0, 1000)
    slopes = ("1", "0.5", "2.25")
    write_slices(
        make_slice(z, pixels, RescaleSlope=slope, RescaleIntercept="-1000")
        for z, pixels, slope in zip(HEIGHTS, stored, slopes, strict=True)
    )
    expected = [np.rint(pixels * float(slope) - 1000) for pixels, slope in zip(stored, slopes, strict=True)]
    np.testing.assert_array_equal(read().values, expected)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_are_cleared(
    make_slice: Slices, write_slices: Write, read: Read, signed: bool
) -> None:
    low, high = (-2048, 2047) if signed else (0, 4095)
    stored = stored_values(np.int16, low, high)
    write_slices(
        make_slice(z, ((pixels & 0x0FFF) | 0x5000).astype(np.uint16), BitsStored=12, PixelRepresentation=int(signed))
        for z, pixels in zip(HEIGHTS, stored, strict=True)
    )
    np.testing.assert_array_equal(read().values, np.stack(stored) - 1024)


def test_stored_bits_need_not_be_the_lowest(make_slice: Slices, write_slices: Write, read: Read) -> None:
    stored = stored_values(np.uint16, 0, 4096)
    write_slices(
        make_slice(z, (pixels << 4) | 3, BitsStored=12, HighBit=15) for z, pixels in zip(HEIGHTS, stored, strict=True)
    )
    np.testing.assert_array_equal(read().values, np.stack(stored).astype(np.int16) - 1024)


@pytest.mark.parametrize(("low", "high"), [(0, 4096), (-1000, 8000)], ids=["in 12 bits", "in 14 bits"])
def test_a_high_bit_that_the_pixels_contradict_shifts_nothing(
    make_slice: Slices, write_slices: Write, read: Read, low: int, high: int
) -> None:
    stored = stored_values(np.int16, low, high)  # dcm4che #511
    write_slices(make_slice(z, pixels, BitsStored=12, HighBit=15) for z, pixels in zip(HEIGHTS, stored, strict=True))
    np.testing.assert_array_equal(read().values, np.stack(stored) - 1024)


def test_signed_values_may_need_more_bits_than_are_stored(make_slice: Slices, write_slices: Write, read: Read) -> None:
    stored = stored_values(np.int16, -1024, 3072)
    tags = {"BitsStored": 12, "RescaleIntercept": "0"}
    write_slices(make_slice(z, pixels, **tags) for z, pixels in zip(HEIGHTS, stored, strict=True))
    np.testing.assert_array_equal(read().values, np.stack(stored))


def test_a_high_bit_that_no_word_has_is_noted(make_slice: Slices, write_slices: Write, scan: Scan, read: Read) -> None:
    stored = stored_values(np.uint16, 0, 4096)
    write_slices(make_slice(z, pixels, BitsStored=12, HighBit=0) for z, pixels in zip(HEIGHTS, stored, strict=True))
    np.testing.assert_array_equal(read().values, np.stack(stored).astype(np.int16) - 1024)
    assert scan()[0][0].notes == ("HighBit is damaged, so it is unknown",)


def test_eight_bits_are_read(make_slice: Slices, write_slices: Write, read: Read) -> None:
    stored = stored_values(np.uint8, 0, 256)
    write_slices(make_slice(z, pixels, RescaleSlope="8") for z, pixels in zip(HEIGHTS, stored, strict=True))
    np.testing.assert_array_equal(read().values, np.stack(stored).astype(np.int16) * 8 - 1024)


def test_hounsfield_units_do_not_depend_on_the_photometric_interpretation(
    make_slice: Slices, write_slices: Write, read: Read
) -> None:
    stored = stored_values(np.int16, 0, 4096)
    write_slices(
        make_slice(z, pixels, PhotometricInterpretation="MONOCHROME1")
        for z, pixels in zip(HEIGHTS, stored, strict=True)
    )
    np.testing.assert_array_equal(read().values, np.stack(stored) - 1024)


def padded(low: int = 0) -> tuple[list[NDArray[np.int16]], NDArray[np.bool_]]:
    """Three slices and where they are padding: outside a circle."""
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    return stored_values(np.int16, low, 3000), x**2 + y**2 > 1


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        pytest.param(-2000, {"PixelPaddingValue": -2000}, id="declared"),
        pytest.param(-2000, {"PixelPaddingValue": -3000, "PixelPaddingRangeLimit": -1500}, id="a range"),
        pytest.param(-2000, {}, id="not declared, in all corners"),
        pytest.param(32767, {"PixelPaddingValue": 32767}, id="far above"),
    ],
)
def test_padding_becomes_air(
    make_slice: Slices, write_slices: Write, read: Read, value: int, declared: dict[str, int]
) -> None:
    stored, outside = padded()
    for pixels in stored:
        pixels[outside] = value
    write_slices(make_slice(z, pixels, **declared) for z, pixels in zip(HEIGHTS, stored, strict=True))
    expected = np.where(outside, AIR, np.stack(stored).astype(np.int64) - 1024)
    np.testing.assert_array_equal(read().values, expected)


def test_padding_outside_the_bits_stored_is_found_before_they_are_cut(
    make_slice: Slices, write_slices: Write, read: Read
) -> None:
    stored, outside = padded()
    words = [np.where(outside, 63536, pixels).astype(np.uint16) for pixels in stored]
    write_slices(
        make_slice(z, pixels, BitsStored=12, PixelPaddingValue=63536) for z, pixels in zip(HEIGHTS, words, strict=True)
    )
    np.testing.assert_array_equal(read().values, np.where(outside, AIR, np.stack(stored) - 1024))


def test_a_padding_value_among_tissue_is_a_mistake_and_blanks_nothing(
    make_slice: Slices, write_slices: Write, read: Read
) -> None:
    stored = stored_values(np.int16, 900, 1200)
    write_slices(make_slice(z, pixels, PixelPaddingValue=1024) for z, pixels in zip(HEIGHTS, stored, strict=True))
    np.testing.assert_array_equal(read().values, np.stack(stored) - 1024)


# --- values without Hounsfield units ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"RescaleIntercept": None, "RescaleSlope": None}, {"RescaleType": "US"}, {"Modality": "MR"}],
    ids=["no rescale", "another unit", "another modality"],
)
def test_values_that_are_no_hounsfield_units_are_said_to_be_arbitrary(
    make_slice: Slices, write_slices: Write, scan: Scan, read: Read, changes: dict[str, Any]
) -> None:
    stored = stored_values(np.uint16, 0, 60000)
    write_slices(make_slice(z, pixels, **changes) for z, pixels in zip(HEIGHTS, stored, strict=True))
    pixels = read(modality=["CT", "MR"])
    assert pixels.unit == "arbitrary"
    intercept = 0 if "RescaleSlope" in changes else -1024
    np.testing.assert_array_equal(pixels.values, np.stack(stored).astype(np.float64) + intercept)


def test_arbitrary_values_are_bright_where_dense_and_padding_is_their_lowest(
    make_slice: Slices, write_slices: Write, read: Read
) -> None:
    stored, outside = padded(low=100)
    for pixels in stored:
        pixels[outside] = 0
    write_slices(
        make_slice(
            z,
            pixels.astype(np.uint16),
            BitsStored=12,
            PhotometricInterpretation="MONOCHROME1",
            PixelPaddingValue=0,
            RescaleIntercept=None,
        )
        for z, pixels in zip(HEIGHTS, stored, strict=True)
    )
    values = read().values
    for found, pixels in zip(values, stored, strict=True):
        np.testing.assert_array_equal(found[~outside], 4095 - pixels[~outside])
        assert (found[outside] == found[~outside].min()).all()


# --- slices that are skipped --------------------------------------------------------------------------------------


def test_constant_and_repeated_slices_are_skipped(make_slice: Slices, write_slices: Write, read: Read) -> None:
    one, other = stored_values(np.int16, 0, 1000)[:2]
    flat = np.full_like(one, 7)
    write_slices(make_slice(float(z), pixels) for z, pixels in enumerate([one, flat, other, one, other]))
    pixels = read()
    np.testing.assert_array_equal(pixels.index, [0, 2])
    assert pixels.skipped == (
        (1, "constant: every pixel has the same value"),
        (3, "duplicate: the same pixels as another slice of its volume"),
        (4, "duplicate: the same pixels as another slice of its volume"),
    )


def test_a_slice_of_padding_and_nothing_else_is_constant(make_slice: Slices, write_slices: Write, read: Read) -> None:
    stored, outside = padded()
    stored[1][...] = np.where(outside, -2000, 0)
    write_slices(make_slice(z, pixels, PixelPaddingValue=-2000) for z, pixels in zip(HEIGHTS, stored, strict=True))
    assert read().skipped == ((1, "constant: every pixel has the same value"),)


def test_a_file_that_changes_or_vanishes_after_the_scan_costs_its_slices(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    paths = write_slices(make_slice(float(z)) for z in range(5))
    (volume,), _ = scan()
    paths[1].unlink()
    os.utime(paths[2], ns=(1, 1))
    paths[3].write_bytes(paths[3].read_bytes()[:-10])
    pixels = read_volume(tmp_path / "data", volume, None)
    np.testing.assert_array_equal(pixels.index, [0, 4])
    assert pixels.skipped == (
        (1, "cannot be opened: No such file or directory"),
        (2, "the file changed since it was scanned"),
        (3, "the file changed since it was scanned"),
    )


def test_a_damaged_compressed_slice_costs_itself(make_slice: Slices, write_slices: Write, read: Read) -> None:
    slices = [
        make_slice(z, pixels) for z, pixels in zip(HEIGHTS, stored_values(np.int16, 0, 4000, side=64), strict=True)
    ]
    for data in slices:
        data.compress(RLELossless)
    path = write_slices(slices)[1]
    data = path.read_bytes()
    segments = data.rindex(b"\xfe\xff\x00\xe0") + 8  # past the offset table and the header of the fragment
    path.write_bytes(data[:segments] + b"\xff" * 64 + data[segments + 64 :])
    pixels = read()
    assert pixels.skipped == ((1, "damaged pixels: RLE Lossless cannot be decoded"),)


def test_a_volume_of_which_nothing_can_be_read_is_an_error(make_slice: Slices, write_slices: Write, read: Read) -> None:
    write_slices(make_slice(z, np.zeros((4, 4), np.int16)) for z in HEIGHTS)
    with pytest.raises(DataError, match="no slice of the volume can be read: constant"):
        read()


def test_wanted_slices_are_those_of_the_whole_volume(make_slice: Slices, write_slices: Write, read: Read) -> None:
    write_slices(make_slice(float(z)) for z in range(6))
    whole = read()
    some = read(np.array([1, 4]))
    np.testing.assert_array_equal(some.index, [1, 4])
    np.testing.assert_array_equal(some.values, whole.values[[1, 4]])
    assert len(read(np.array([], np.int64)).values) == 0


def joined(blocks: list[Pixels]) -> Pixels:
    """The blocks as one; their values must have been copied."""
    values, index, ends = (np.concatenate([getattr(one, of) for one in blocks]) for of in ("values", "index", "ends"))
    return Pixels(values, index, "HU", tuple(skip for one in blocks for skip in one.skipped), ends=ends)


@pytest.mark.parametrize("pixels_at_a_time", [1, 2 * 256, 1 << 20])
def test_blocks_hold_what_the_whole_volume_does(
    pixels_at_a_time: int, make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ctkit_datasets.dicom_pixels._BLOCK", pixels_at_a_time)
    slices = [make_slice(float(z)) for z in range(9)]
    for repeated, first in ((1, 0), (4, 2), (8, 0)):  # in the same block and in another one
        slices[repeated].PixelData = slices[first].PixelData
    slices[6].PixelData = bytes(512)  # constant
    write_slices(slices)
    (volume,), _ = scan()
    whole = read_volume(tmp_path / "data", volume, None)
    blocks = [replace(one, values=one.values.copy()) for one in read_blocks(tmp_path / "data", volume, None)]
    assert [number for number, _ in whole.skipped] == [1, 4, 6, 8]
    assert max(len(one.index) for one in blocks) == {1: 1, 512: 2, 1 << 20: 5}[pixels_at_a_time]
    for name in ("values", "index", "ends", "skipped"):
        np.testing.assert_array_equal(getattr(joined(blocks), name), getattr(whole, name))
    np.testing.assert_array_equal(whole.ends, [[one.min(), one.max()] for one in whole.values])


def test_one_array_serves_all_blocks(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("ctkit_datasets.dicom_pixels._BLOCK", 2 * 256)
    write_slices(make_slice(float(z)) for z in range(7))
    (volume,), _ = scan()
    blocks = list(read_blocks(tmp_path / "data", volume, None))
    assert [len(one.index) for one in blocks] == [2, 2, 2, 1]
    assert all(np.shares_memory(one.values, blocks[0].values) for one in blocks)


# --- orientation and memory ---------------------------------------------------------------------------------------


def test_a_slice_stored_turned_comes_out_upright(make_slice: Slices, write_slices: Write, read: Read) -> None:
    stored = [np.random.default_rng(seed).integers(0, 3000, (4, 6)).astype(np.int16) for seed in range(3)]
    prone = ["-1", "0", "0", "0", "-1", "0"]
    write_slices(
        make_slice(z, pixels, ImageOrientationPatient=prone) for z, pixels in zip(HEIGHTS, stored, strict=True)
    )
    np.testing.assert_array_equal(read().values, np.stack(stored)[:, ::-1, ::-1] - 1024)


def test_reading_needs_the_volume_and_little_more(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    slices = stored_values(np.int16, 0, 4000, side=256)
    write_slices(make_slice(float(z), slices[0] + z) for z in range(20))
    (volume,), _ = scan()
    read_volume(tmp_path / "data", volume, np.array([0]))
    tracemalloc.start()
    pixels = read_volume(tmp_path / "data", volume, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < pixels.values.nbytes + 4 * pixels.values[0].nbytes


def test_uncompressed_volumes_are_read_without_pydicom(make_slice: Slices, write_slices: Write, tmp_path: Path) -> None:
    import subprocess

    write_slices(make_slice(z) for z in HEIGHTS)
    script = (
        "import sys; from ctkit_datasets.dicom import Dicom; from ctkit_datasets.filters import SeriesParams;"
        f"data = Dicom(SeriesParams(root={str(tmp_path / 'data')!r}));"
        "(volume,) = data.arrange((file, data.inspect(file)) for file in data.files());"
        "assert len(data.read(volume).values) == 3; assert 'pydicom' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
