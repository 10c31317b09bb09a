"""Which unit the values of a series are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ctkit.contracts import Volume
from ctkit_datasets.dicom import Dicom
from ctkit_datasets.filters import SeriesParams

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Scan = Callable[..., tuple[list[Volume], dict[str, str]]]

HEIGHTS = (0.0, 2.0, 4.0)


def body(number: int) -> NDArray[np.int16]:
    """A slice in HU, (32, 32): tissue with noise between air."""
    values = np.random.default_rng(number).normal(40, 20, (32, 32))
    values[:, :8] = -1000
    return np.rint(values).astype(np.int16)


def unit(scan: Scan, root: Path, **params: Any) -> tuple[str, float]:
    """Return unit and median of the tissue of the only volume."""
    (volume,), _ = scan(**params)
    pixels = Dicom(SeriesParams(root=root / "data", **params)).read(volume)
    return pixels.unit, float(np.median(pixels.values[:, :, 8:]))


@pytest.mark.parametrize(
    "text", ["HU", "hu", "H.U.", "Hounsfield Unit", "HOUNSFIELD", "Hounsfield Units (HU)", "", "US"]
)
def test_a_ct_of_any_spelling_is_in_hounsfield_units(  # dicom-standard #73, SimpleITK #1014
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path, text: str
) -> None:
    write_slices(make_slice(z, body(n) + np.int16(1024), RescaleType=text) for n, z in enumerate(HEIGHTS))
    found, tissue = unit(scan, tmp_path)
    assert (found, abs(tissue - 40) < 2) == ("HU", True)


def test_metal_in_a_few_slices_does_not_hide_the_unit(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    slices = [body(n) for n in range(8)]
    slices[3][10:20, 10:20] = 12_000
    write_slices(make_slice(2.0 * n, one + np.int16(1024), RescaleType="US") for n, one in enumerate(slices))
    assert unit(scan, tmp_path)[0] == "HU"


@pytest.mark.parametrize("text", ["OD", "MGML", "Z_EFF", "ED", "HU_MOD", "PCT", "mg/ml", "DOE^JANE"])
def test_what_is_said_to_be_something_else_is_not(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path, text: str
) -> None:
    write_slices(make_slice(z, body(n) + np.int16(1024), RescaleType=text) for n, z in enumerate(HEIGHTS))
    assert unit(scan, tmp_path)[0] == "arbitrary"


@pytest.mark.parametrize(
    ("stored", "changes", "expected"),
    [
        (lambda hu: hu, {}, "HU"),  # as SimpleITK writes signed values
        (lambda hu: hu + 1024, {}, "arbitrary"),  # nothing below 0
        (lambda hu: hu + 1024, {"RescaleIntercept": "-1024"}, "HU"),
        (lambda hu: (hu + 1024) * 8, {"RescaleIntercept": "-1024", "RescaleSlope": "0.125"}, "HU"),
        (lambda hu: (hu + 1024) * 8, {"RescaleIntercept": "-1024"}, "arbitrary"),  # tissue at 7,500
        (lambda hu: hu, {"RescaleIntercept": None}, "arbitrary"),
        (lambda hu: hu, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "arbitrary"),
    ],
)
def test_values_tell_the_unit_that_the_header_leaves_open(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path,
    stored: Callable[[NDArray[np.int16]], NDArray[np.int16]], changes: dict[str, Any], expected: str,
) -> None:  # fmt: skip
    tags = {"RescaleIntercept": "0", "RescaleType": "US"} | changes
    write_slices(make_slice(z, stored(body(n)).astype(np.int16), **tags) for n, z in enumerate(HEIGHTS))
    assert unit(scan, tmp_path)[0] == expected


def test_compressed_values_are_judged_by_their_intercept(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    slices = [make_slice(z, body(n) + np.int16(1024), RescaleType="US") for n, z in enumerate(HEIGHTS)]
    for data in slices:
        data.compress("1.2.840.10008.1.2.5")
    write_slices(slices)
    assert unit(scan, tmp_path)[0] == "HU"


def test_one_slice_without_air_does_not_leave_its_series(make_slice: Slices, write_slices: Write, scan: Scan) -> None:
    pixels = [body(0), body(1)[:, 8:24].repeat(2, 1), body(2)]
    tags = {"RescaleType": "US", "RescaleIntercept": "0"}
    write_slices(make_slice(z, values, **tags) for z, values in zip(HEIGHTS, pixels, strict=True))
    (volume,), _ = scan()
    assert len(volume) == 3


@pytest.mark.parametrize("wanted", ["HU", "arbitrary"])
def test_the_unit_may_be_told(make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path, wanted: str) -> None:
    write_slices(make_slice(z, body(n), RescaleIntercept=None, RescaleSlope=None) for n, z in enumerate(HEIGHTS))
    assert unit(scan, tmp_path)[0] == "arbitrary"
    found, tissue = unit(scan, tmp_path, unit=wanted)
    assert (found, abs(tissue - 40) < 2) == (wanted, True)


def test_what_gdcm_has_rewritten_is_in_hounsfield_units(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    for path in write_slices(make_slice(z, body(n) + np.int16(1024)) for n, z in enumerate(HEIGHTS)):
        reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        writer.SetFile(reader.GetFile())
        writer.SetImage(reader.GetImage())
        writer.SetFileName(str(path))
        assert writer.Write()
        assert b"US" in path.read_bytes()
    found, tissue = unit(scan, tmp_path)
    assert (found, abs(tissue - 40) < 2) == ("HU", True)
