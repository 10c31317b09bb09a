from __future__ import annotations

import contextlib
import gzip
import itertools
import math
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ctkit.contracts import Pixels, Skipped, Volume
from ctkit.errors import DataError
from ctkit.slices.rendering import evidence
from ctkit_datasets.nifti import Nifti, NiftiParams
from ctkit_datasets.nifti_files import _orientation, header_facts, label_values, read_slices
from ctkit_datasets.pet_ct import PetCt, PetCtParams
from ctkit_datasets.phantom import Phantom, PhantomParams
from phantom_files import write_nifti

SHAPE = (6, 5, 4)
REAL = ("totalsegmentator/example_ct.nii.gz", "totalsegmentator/example_ct_sm.nii.gz",
        "totalsegmentator/ct_cropped_lps.nii.gz", "niivue/CT_AVM.nii.gz")  # fmt: skip


def ct(shape: tuple[int, ...] = SHAPE, dtype: Any = np.int16) -> np.ndarray:
    """Values that are all different and look like CT."""
    return (np.arange(math.prod(shape)).reshape(shape) * 7 - 1000).astype(dtype)


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None, **header: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine, dtype=values.dtype)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def damaged(path: Path, place: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)


def scan(root: Path, **params: Any) -> tuple[list[Volume], dict[str, str]]:
    dataset = Nifti(NiftiParams(root=root, **params))
    headers, skipped = [], {}
    for file in dataset.files():
        found = dataset.inspect(file)
        if isinstance(found, Skipped):
            skipped[found.source] = found.reason
        else:
            headers.append((file, found))
    volumes = []
    for item in dataset.arrange(headers):
        if isinstance(item, Volume):
            volumes.append(item)
        else:
            skipped[item.source] = item.reason
    return volumes, skipped


def only(root: Path, **params: Any) -> tuple[Volume, Pixels]:
    (volume,), _ = scan(root, **params)
    return volume, Nifti(NiftiParams(root=root, **params)).read(volume)


def by_nibabel(path: Path) -> np.ndarray:
    """Scaled voxels as (slices from the feet, rows to the back, columns to the left)."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)


def by_simpleitk(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS"))


# --- orientation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", list(itertools.permutations("RAS")), ids="".join)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_any_orientation_comes_to_the_common_one(tmp_path: Path, axes: tuple[str, ...], flips: tuple[int, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (letter, flip) in enumerate(zip(axes, flips, strict=True)):
        affine["RAS".index(letter), axis] = flip
    path = save(tmp_path / "a.nii.gz", ct(), affine)
    volume, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, by_nibabel(path))
    np.testing.assert_array_equal(pixels.values, by_simpleitk(path))
    assert (len(volume), volume.rows, volume.columns) == pixels.values.shape


def test_a_phantom_is_the_same_as_a_file_and_without(tmp_path: Path) -> None:
    phantom = Phantom(PhantomParams(patients=1, slices=4, matrix=32))
    write_nifti(tmp_path, phantom)
    volume, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, phantom.read(phantom.volume(0)).values)
    assert volume.spacing == pytest.approx(phantom.volume(0).spacing, abs=1e-4)
    assert (pixels.unit, volume.patient, volume.notes) == ("HU", "phantom-0.nii.gz", ())


def test_oblique_slices_go_to_the_nearest_axes_and_are_noted(tmp_path: Path) -> None:
    turn = math.radians(20)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    path = save(tmp_path / "a.nii", ct(), affine)
    volume, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, by_nibabel(path))
    assert volume.notes == ("slices are tilted by 20 degrees",)


@given(st.lists(st.floats(-1, 1), min_size=9, max_size=9))
def test_the_nearest_axes_are_those_that_nibabel_finds(numbers: list[float]) -> None:
    """For rotations; for sheared axes there is no right answer."""
    rotation, _ = np.linalg.qr(np.reshape(numbers, (3, 3)) + 3 * np.eye(3)[:, [1, 2, 0]])
    cosines = np.sort(np.abs(rotation), axis=0)
    if (cosines[2] - cosines[1] < 0.05).any():  # as good as undecided
        return
    header = nibabel.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_sform(np.block([[rotation, np.zeros((3, 1))], [np.zeros((1, 3)), 1]]), code=1)
    found = _orientation(header, SHAPE)
    expected = nibabel.orientations.io_orientation(header.get_best_affine())
    for axis, flip, world, positive in zip(found["axes"], found["flips"], (2, 1, 0), (1, -1, -1), strict=True):
        assert expected[axis, 0] == world
        assert flip == (expected[axis, 1] != positive)


def test_slices_acquired_in_another_plane_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ct(), np.diag([1.0, 4.0, 1.0, 1.0]))
    volumes, skipped = scan(tmp_path)
    assert (volumes, skipped) == ([], {"a.nii.gz": "acquired in coronal slices"})
    volume, pixels = only(tmp_path, orientation="any")
    assert volume.notes == ("acquired in coronal slices",)
    assert volume.spacing == (1.0, 4.0, 1.0)
    np.testing.assert_array_equal(pixels.values, by_nibabel(path))


def test_a_qform_serves_where_there_is_no_sform_and_a_broken_one_does_not(tmp_path: Path) -> None:
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image(ct(), affine)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    path = tmp_path / "a.nii"
    nibabel.save(image, path)
    expected = by_nibabel(path)
    np.testing.assert_array_equal(only(tmp_path)[1].values, expected)
    damaged(path, 254, struct.pack("<h", 1))  # code of the sform, whose matrix holds zeros
    np.testing.assert_array_equal(only(tmp_path)[1].values, expected)


def test_a_header_without_orientation_is_read_as_analyze_and_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct())
    damaged(path, 252, struct.pack("<hh", 0, 0))
    volume, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, by_nibabel(path))
    assert "no orientation" in volume.notes[0]


@pytest.mark.parametrize("step", [0.0, math.nan, math.inf, -0.0, 1e30])
def test_a_spacing_that_makes_no_sense_is_unknown_and_costs_nothing(tmp_path: Path, step: float) -> None:
    path = save(tmp_path / "a.nii", ct())
    damaged(path, 76, struct.pack("<4f", 1, 0.75, 0.5, step))
    damaged(path, 280, struct.pack("<12f", *[math.nan] * 12))
    volume, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, ct().transpose(2, 1, 0)[:, ::-1])  # first axis to the left
    assert volume.spacing == (0.75, 0.5, None)
    assert "no orientation" in volume.notes[0]
    assert "no usable spacing" in volume.notes[1]


def test_a_fourth_dimension_of_none_is_one(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct())
    damaged(path, 40, struct.pack("<8h", 5, 6, 5, 4, 0, 0, 1, 1))
    assert only(tmp_path)[1].values.shape == (4, 5, 6)


@pytest.mark.parametrize(("code", "factor"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_spacing_is_in_millimetres_whatever_the_unit(tmp_path: Path, code: int, factor: float) -> None:
    save(tmp_path / "a.nii", ct(), np.diag([0.75, 0.5, 0.7, 1.0]), xyzt_units=code)
    assert only(tmp_path)[0].spacing == pytest.approx((0.75 * factor, 0.5 * factor, 0.7 * factor))


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_real_type_and_byte_order_is_read(tmp_path: Path, kind: str, order: str) -> None:
    values = (np.arange(math.prod(SHAPE)).reshape(SHAPE) % 120).astype(order + kind)
    image = nibabel.Nifti1Image(values, np.eye(4), nibabel.Nifti1Header(endianness=order), dtype=values.dtype)
    nibabel.save(image, tmp_path / "a.nii")
    _, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, by_nibabel(tmp_path / "a.nii"))
    assert pixels.unit == "arbitrary"
    assert pixels.values.dtype == (np.float32 if kind[0] == "f" else np.dtype(kind))


def test_nifti_2_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(ct(), np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(only(tmp_path)[1].values, by_nibabel(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize("stored", [np.int16, np.uint16, np.float32])
def test_slope_and_intercept_are_applied_before_rounding(tmp_path: Path, stored: Any) -> None:
    values = (np.arange(math.prod(SHAPE)).reshape(SHAPE) * 3).astype(stored)
    path = save(tmp_path / "a.nii", values)
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<ff", 2.3, -1000.25)
    path.write_bytes(data)
    _, pixels = only(tmp_path)
    assert (pixels.unit, pixels.values.dtype) == ("HU", np.int16)
    np.testing.assert_array_equal(pixels.values, np.rint(by_nibabel(path)))


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (ct(), "HU"),
        (ct(dtype=np.int32), "HU"),
        (ct(dtype=np.float64), "HU"),
        (ct() - 2000, "HU"),
        (ct() + 1024, "arbitrary"),
        (ct(dtype=np.float32) * 1e4, "arbitrary"),
        (ct() // 10, "arbitrary"),
    ],
    ids=["int16", "int32", "float", "padded", "offset", "huge", "no air"],
)
def test_hounsfield_units_are_told_by_their_range(tmp_path: Path, values: np.ndarray, unit: str) -> None:
    save(tmp_path / "a.nii", values)
    assert only(tmp_path)[1].unit == unit
    for asked in ("HU", "arbitrary"):
        assert only(tmp_path, unit=asked)[1].unit == asked


def test_the_unit_does_not_depend_on_the_slices_that_are_wanted(tmp_path: Path) -> None:
    values = ct()
    values[:, :, 1:] = np.arange(5)[:, None]
    save(tmp_path / "a.nii", values)
    (volume,), _ = scan(tmp_path)
    pixels = Nifti(NiftiParams(root=tmp_path)).read(volume, np.array([3, 1]))
    assert pixels.unit == "HU"
    np.testing.assert_array_equal(pixels.index, [3, 1])
    np.testing.assert_array_equal(pixels.values, by_nibabel(tmp_path / "a.nii")[[3, 1]])


def test_what_is_no_number_or_padding_becomes_air_in_hounsfield_units(tmp_path: Path) -> None:
    values = ct(dtype=np.float32)
    values[0, 0, :] = [np.nan, np.inf, -3024, -2000]
    values[1, 1, 1] = -1999
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values[:, -1, -1], [-1024] * 4)
    assert pixels.values[1, -2, -2] == -1999


def test_what_is_no_number_becomes_the_lowest_value_where_there_is_no_unit(tmp_path: Path) -> None:
    values = np.abs(ct(dtype=np.float32)) + 0.5
    values[0, 0, 2] = np.nan
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    assert pixels.values[2, -1, -1] == np.nanmin(values)


def test_a_constant_slice_is_skipped_and_the_others_are_not(tmp_path: Path) -> None:
    values = ct()
    values[:, :, 1] = -1024
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.index, [0, 2, 3])
    np.testing.assert_array_equal(pixels.values, by_nibabel(tmp_path / "a.nii")[[0, 2, 3]])
    assert pixels.skipped == ((1, "constant: every pixel has the same value"),)


def body(dtype: Any = np.float32) -> np.ndarray:
    """Air, soft tissue and bone, each with noise: (32, 32, 6) in HU."""
    values = np.random.default_rng(0).normal(0, 8, (32, 32, 6)) - 1000
    values[4:28, 4:28] += 1040
    values[14:18, 14:18] += 660
    return np.rint(values).astype(dtype)


def grey_levels(values: np.ndarray) -> int:
    return min(len(np.unique(grey)) for grey in evidence(values))


def cylinder(values: np.ndarray, padding: float, *, resampled: bool = False) -> np.ndarray:
    """Values with padding outside of a scanner's field of view; where they were resampled, with steps to it."""
    y, x = np.mgrid[:32, :32] - 15.5
    outside = np.hypot(x, y) > 15
    found = values.copy()
    found[outside] = padding
    if resampled:
        edge = np.flatnonzero(outside)[::80]
        found.reshape(-1, values.shape[-1])[edge] = padding / 2
    return found


@pytest.mark.parametrize("padding", [-2000, -3024, -1024, -1000, -1])
@pytest.mark.parametrize("resampled", [True, False])
def test_a_scale_from_0_with_padding_is_not_in_hounsfield_units_and_padding_flattens_nothing(
    tmp_path: Path, padding: int, resampled: bool
) -> None:
    values = cylinder(np.maximum(body() + 1000, 0), padding, resampled=resampled).astype(np.int16)
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    assert (pixels.unit, pixels.values.min()) == ("arbitrary", 0)
    assert pixels.values.max() == values.max()
    inside = by_nibabel(tmp_path / "a.nii") >= 0
    np.testing.assert_array_equal(pixels.values[inside], by_nibabel(tmp_path / "a.nii")[inside])
    assert pixels.notes == (f"voxels out of range, clipped: {(~inside).sum():,}",)


@pytest.mark.parametrize("padding", [-2000, -3024, -1024, -1000])
def test_a_scan_in_hounsfield_units_stays_so_with_padding_or_air_around_what_was_cut_out(
    tmp_path: Path, padding: int
) -> None:
    save(tmp_path / "a.nii", cylinder(body(), padding).astype(np.int16))
    assert only(tmp_path)[1].unit == "HU"
    organ = np.full((32, 32, 6), padding, np.int16)
    organ[8:24, 8:24] = np.random.default_rng(0).normal(30, 25, (16, 16, 6))  # a brain, some of it below water
    save(tmp_path / "a.nii", organ)
    assert only(tmp_path)[1].unit == "HU"


@pytest.mark.parametrize("fill", [-3.4e38, 3.4e38, -np.finfo(np.float32).max, -1e20, np.inf, np.nan, 2147483648.0])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_fill_value_flattens_nothing_and_is_counted(tmp_path: Path, fill: float, share: float) -> None:
    values = body()
    filled = np.zeros(values.shape, bool)
    filled[: int(32 * share), :, 1] = True
    values[filled] = fill
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    assert pixels.unit == "HU"
    expected = np.where(filled, -1024, body())[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(pixels.values, expected)
    assert pixels.notes == (f"NaN voxels, replaced by air: {filled.sum():,}",)


@pytest.mark.parametrize("metal", [32768, 40000, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.float64])
def test_a_little_metal_beyond_16_bits_is_clipped_to_the_highest_bone_and_counted(
    tmp_path: Path, metal: float, dtype: Any
) -> None:
    values = body(dtype)
    values[15:17, 15:17, 2] = metal
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    plain = body()
    assert (pixels.unit, pixels.notes) == ("HU", ("voxels out of range, clipped: 4",))
    plain[15:17, 15:17, 2] = -1024
    plain[15:17, 15:17, 2] = plain.max()
    np.testing.assert_array_equal(pixels.values, plain[::-1, ::-1].transpose(2, 1, 0))
    assert grey_levels(pixels.values) > 15  # 5, if metal were the end of the scale


def test_metal_within_16_bits_stays_and_so_does_a_fade_to_it(tmp_path: Path) -> None:
    values = body()
    values[15, 15, 2] = 30000
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    assert (pixels.values.max(), pixels.notes) == (30000, ())
    values[15, 16, 2], values[15, 17, 2] = 50000, 2900  # a resampled edge: nothing between bone and metal is meant
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    assert (pixels.values.max(), pixels.notes) == (2900, ("voxels out of range, clipped: 2",))


def test_few_low_voxels_make_no_hounsfield_units(tmp_path: Path) -> None:
    """Magnetic resonance and PET that were resampled by splines undershoot at edges."""
    values = body() + 1100
    values[3, 3, :2] = -400
    save(tmp_path / "a.nii", values)
    assert only(tmp_path)[1].unit == "arbitrary"


def test_a_hip_of_metal_leaves_hounsfield_units_and_a_bright_lesion_in_pet_makes_none(tmp_path: Path) -> None:
    values = body()
    values[:, :9, 0] = 60000  # 4.7 % of all
    save(tmp_path / "a.nii", values)
    assert only(tmp_path)[1].unit == "HU"
    activity = np.abs(body()) * 10
    activity[:, :2] = -300
    save(tmp_path / "a.nii", activity)
    assert only(tmp_path)[1].unit == "arbitrary"


def test_far_outliers_are_clipped_where_there_is_no_unit_as_well(tmp_path: Path) -> None:
    values = (body() + 1100).astype(np.uint16)
    highest = values.max()
    values[0, 0, 0], values[0, 1, 0] = 65535, 20000
    save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    assert (pixels.unit, pixels.values.dtype, pixels.values.max()) == ("arbitrary", np.uint16, highest)
    assert pixels.notes == ("voxels out of range, clipped: 2",)


def test_a_unit_of_huge_numbers_is_left_alone(tmp_path: Path) -> None:
    values = (body().astype(np.float64) + 1100) * 1e12
    path = save(tmp_path / "a.nii", values)
    _, pixels = only(tmp_path)
    np.testing.assert_allclose(pixels.values, by_nibabel(path), rtol=1e-6)
    assert pixels.notes == ()


# --- what is left out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "data", "reason"),
    [
        (40, struct.pack("<8h", 4, 6, 5, 4, 2, 1, 1, 1), "4-D: 2 volumes in one file"),
        (40, struct.pack("<8h", 3, 6, -5, 4, 1, 1, 1, 1), "invalid dimensions"),
        (40, struct.pack("<8h", 9, 6, 5, 4, 1, 1, 1, 1), "invalid dimensions"),
        (40, struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1), "asks for 70,362,301,923,678 bytes"),
        (68, struct.pack("<h", 1002), "a label map"),
        (70, struct.pack("<h", 128), "colours"),
        (70, struct.pack("<h", 32), "data type 32"),
        (108, struct.pack("<f", math.nan), "invalid position of its voxels"),
        (108, struct.pack("<f", 1e9), "truncated"),
        (344, b"ni1\0", "voxels in another file"),
        (344, b"\0\0\0\0", "ANALYZE"),
        (0, b"\0\0\0\0", "not a NIfTI file"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_the_reason(tmp_path: Path, place: int, data: bytes, reason: str) -> None:
    path = save(tmp_path / "a.nii", ct())
    damaged(path, 76, struct.pack("<4f", 0, 0, 0, 0))  # so that no spacing can serve for orientation
    damaged(path, 252, struct.pack("<h", 0))
    damaged(path, place, data)
    volumes, skipped = scan(tmp_path)
    assert volumes == []
    assert reason in skipped["a.nii"]


def test_a_file_in_time_of_one_moment_is_a_volume(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", ct()[..., None])
    assert only(tmp_path)[1].values.shape == (4, 5, 6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [0, 0.001, 0.03, 0.5, 0.999])
def test_a_truncated_file_is_left_out_and_never_fatal(tmp_path: Path, name: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20), np.int16)
    path = save(tmp_path / name, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    volumes, skipped = scan(tmp_path)
    if volumes:  # the header of a compressed file may be whole
        assert name.endswith("gz")
        with pytest.raises(DataError, match=r"damaged|truncated"):
            Nifti(NiftiParams(root=tmp_path)).read(volumes[0])
    else:
        assert skipped.keys() == {name}


def test_a_flipped_bit_in_compressed_voxels_is_found_by_the_checksum(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20), np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))  # stored, not deflated
    content[4000] ^= 1
    path.write_bytes(content)
    (volume,), _ = scan(tmp_path)
    with pytest.raises(DataError, match="compressed data are damaged"):
        Nifti(NiftiParams(root=tmp_path)).read(volume)


@pytest.mark.parametrize(
    "trailing",
    [b"garbage!!", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08broken", b"\x1f\x8b\x08\0\0\0\0\0garbage", b"\0" * 600 + b"x"],
)
def test_what_follows_a_whole_gzip_member_is_ignored_with_a_note(tmp_path: Path, trailing: bytes) -> None:
    path = save(tmp_path / "a.nii.gz", ct())
    expected = by_nibabel(path)
    path.write_bytes(path.read_bytes() + trailing)
    _, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, expected)
    assert pixels.notes == ("bytes after the compressed data are ignored",)


def test_padding_with_zeros_and_files_of_several_members_are_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ct())
    expected, content = by_nibabel(path).copy(), path.read_bytes()
    for cut in (10, 352, 400):  # inside the header, after it, among the voxels
        parts = gzip.compress(content[:cut]), gzip.compress(content[cut:])
        for between in (b"", b"\0" * 512, gzip.compress(b"")):
            path.write_bytes(between.join(parts) + between + bytes(1024))
            _, pixels = only(tmp_path)
            np.testing.assert_array_equal(pixels.values, expected)
            assert pixels.notes == ()


def test_a_second_member_that_is_needed_may_not_be_damaged(tmp_path: Path) -> None:
    content = save(tmp_path / "a.nii", ct()).read_bytes()
    second = gzip.compress(content[550:])  # the scan reads 540
    for damaged_one in (second[:-4], second[:-8] + bytes(4) + second[-4:], second[:12]):
        (tmp_path / "a.nii").write_bytes(gzip.compress(content[:550]) + damaged_one)
        (volume,), _ = scan(tmp_path)
        with pytest.raises(DataError, match="compressed data are damaged"):
            Nifti(NiftiParams(root=tmp_path)).read(volume)


def test_reasons_name_no_file(tmp_path: Path) -> None:
    save(tmp_path / "John_Doe.nii.gz", ct())
    (volume,), _ = scan(tmp_path)
    (tmp_path / "John_Doe.nii.gz").unlink()
    with pytest.raises(DataError) as caught:
        Nifti(NiftiParams(root=tmp_path)).read(volume)
    assert "Doe" not in str(caught.value)


def test_compression_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    plain, packed = save(tmp_path / "plain.nii", ct()).read_bytes(), save(tmp_path / "packed.nii.gz", ct()).read_bytes()
    (tmp_path / "plain.nii").write_bytes(packed)
    (tmp_path / "packed.nii.gz").write_bytes(plain)
    dataset = Nifti(NiftiParams(root=tmp_path))
    volumes, skipped = scan(tmp_path)
    assert skipped == {}
    for volume in volumes:
        assert dataset.read(volume).values.shape == (4, 5, 6)


def claiming(path: Path, side: int, more: bytes) -> Path:
    """Write a compressed file whose header claims ``side`` voxels each way, which goes on with ``more``."""
    header = bytearray(save(path, ct()).read_bytes()[:352])
    header[40:56] = struct.pack("<8h", 3, side, side, side, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(header) + more))
    return path


@pytest.mark.parametrize("side", [200, 300])
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path: Path, side: int) -> None:
    """16 MB are believed until they turn out not to be there; 54 MB too, as small files may claim up to 64 MB."""
    claiming(tmp_path / "a.nii", side, b"few voxels")
    (volume,), _ = scan(tmp_path)
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated"):
        Nifti(NiftiParams(root=tmp_path)).read(volume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_a_file_that_would_inflate_beyond_what_ct_can_is_refused_by_its_header(tmp_path: Path) -> None:
    claiming(tmp_path / "bomb.nii", 330, bytes(2 * 330**3))
    volumes, skipped = scan(tmp_path)
    assert volumes == []
    assert "asks for 71,874,352 bytes" in skipped["bomb.nii"]


# --- choosing -----------------------------------------------------------------------------------------------------


def test_files_are_chosen_by_name_pattern_and_number(tmp_path: Path) -> None:
    for name in ("p1/ct.nii.gz", "p1/mask.nii.gz", "p2/ct.nii.gz", "p3/ct.nii", "readme.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            save(tmp_path / name, ct())
    volumes, skipped = scan(tmp_path, include=["*ct.nii*"], exclude=["p3/*"])
    assert [volume.patient for volume in volumes] == ["p1", "p2"]
    assert skipped == {
        "p1/mask.nii.gz": "skipped by the parameter include",
        "p3/ct.nii": "skipped by the parameter exclude",
        "readme.txt": "not a NIfTI file by its name, which should end in .nii or .nii.gz",
    }
    volumes, skipped = scan(tmp_path, max_patients=1)
    assert [volume.key for volume in volumes] == ["p1/ct.nii.gz", "p1/mask.nii.gz"]
    assert skipped["p2/ct.nii.gz"] == "beyond the first 1 patients"
    volumes, skipped = scan(tmp_path, max_volumes=3)
    assert len(volumes) == 3
    assert skipped["p3/ct.nii"] == "beyond the first 3 volumes"
    assert scan(tmp_path, min_slices=5)[1]["p1/ct.nii.gz"] == "a volume of fewer than 5 slices (parameter min_slices)"


def test_a_pattern_names_the_patient(tmp_path: Path) -> None:
    for name in ("LUNG-001_a.nii.gz", "LUNG-001_b.nii.gz", "LUNG-002_a.nii.gz"):
        save(tmp_path / name, ct())
    patients = [volume.patient for volume in scan(tmp_path, patient=r"^(LUNG-\d+)")[0]]
    assert patients == ["LUNG-001", "LUNG-001", "LUNG-002"]
    with pytest.raises(ValidationError, match="must be a regular expression"):
        NiftiParams(root=tmp_path, patient="(")


# --- fuzz ---------------------------------------------------------------------------------------------------------


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes, fields or the length of a file."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, min(len(data), 352 if rng.random() < 0.8 else len(data)) or 1))
        match rng.integers(0, 4):
            case 0:
                data[place : place + 1] = rng.bytes(1)
            case 1:
                data[place : place + 4] = rng.bytes(4)
            case 2:
                extreme = rng.choice([0, 1, -1, 32767, -32768, 256])
                data[place : place + 2] = struct.pack("<h", int(extreme))
            case _:
                data = data[: rng.integers(0, len(data) + 1)]
    return bytes(data)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_mutated_file_crashes_or_takes_much_memory(tmp_path: Path, compressed: bool, count: int) -> None:
    rng = np.random.default_rng(7)
    original = save(tmp_path / "a.nii", ct((12, 11, 10)), scl_slope=1).read_bytes()
    path = tmp_path / "a.nii"
    outcomes = {"read": 0, "damaged": 0}
    tracemalloc.start()
    for number in range(count):
        content = mutated(original, rng)
        if compressed:  # mutate inside and outside of the compression
            content = gzip.compress(content, mtime=0)
            content = mutated(content, rng) if number % 2 else content
        path.write_bytes(content)
        try:
            facts = header_facts(path, len(content))
            label_values(path, facts)
            pixels = read_slices(path, facts)
        except DataError:
            outcomes["damaged"] += 1
        else:
            outcomes["read"] += 1
            assert np.isfinite(pixels.values).all()
            assert len(pixels.index) + len(pixels.skipped) == facts["shape"][0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert min(outcomes["read"], outcomes["damaged"]) > 30
    assert peak < 30e6


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 540))
def test_any_bytes_in_a_header_are_left_out_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = save(folder / "fuzz.nii", ct())
    damaged(path, place, data)
    with contextlib.suppress(DataError):
        pixels = read_slices(path, header_facts(path, path.stat().st_size))
        assert np.isfinite(pixels.values).all()


# --- FDG-PET-CT-Lesions -------------------------------------------------------------------------------------------


def pet_ct(root: Path) -> None:
    for patient, study in (("PETCT_b", "s1"), ("PETCT_a", "s2"), ("PETCT_a", "s1")):
        for name in ("CT", "CTres", "PET", "SUV", "SEG"):
            save(root / patient / study / f"{name}.nii.gz", ct((6, 5, 12)) + len(name))
    save(root / "CT.nii.gz", ct())


def pet_ct_volumes(root: Path, **params: Any) -> tuple[PetCt, list[Volume]]:
    dataset = PetCt(PetCtParams(root=root, **params))
    inspected = [(file, dataset.inspect(file)) for file in dataset.files()]
    headers = [(file, facts) for file, facts in inspected if not isinstance(facts, Skipped)]
    return dataset, [volume for volume in dataset.arrange(headers) if isinstance(volume, Volume)]


def test_of_the_pet_ct_tree_only_the_ct_asked_for_is_used(tmp_path: Path) -> None:
    pet_ct(tmp_path)
    dataset, volumes = pet_ct_volumes(tmp_path)
    assert [volume.key for volume in volumes] == [
        "PETCT_a/s1/CT.nii.gz", "PETCT_a/s2/CT.nii.gz", "PETCT_b/s1/CT.nii.gz",
    ]  # fmt: skip
    assert len(pet_ct_volumes(tmp_path, resampled=True)[1]) == 3
    root_file = next(file for file in dataset.files() if file.path == "CT.nii.gz")
    assert dataset.inspect(root_file) == Skipped("CT.nii.gz", "not in PATIENT/STUDY/CT.nii.gz")


def test_the_standard_recipe_reads_the_tree_upright_in_hounsfield_units(tmp_path: Path) -> None:
    pet_ct(tmp_path)
    dataset, (volume, *_) = pet_ct_volumes(tmp_path)
    pixels = dataset.read(volume)
    assert pixels.unit == "HU"
    np.testing.assert_array_equal(pixels.values, by_nibabel(tmp_path / volume.key))


def test_the_published_recipe_is_the_plain_reading_of_the_scripts(tmp_path: Path) -> None:
    pet_ct(tmp_path)
    dataset, volumes = pet_ct_volumes(tmp_path, recipe="published")
    assert volumes[2].order[:3] == ("PETCT_b_2_0", "PETCT_b_2_1", "PETCT_b_2_2")
    for volume in volumes:
        voxels = nibabel.load(tmp_path / volume.key).get_fdata().transpose(2, 1, 0)
        pixels = dataset.read(volume, np.array([0, 7]))
        for values, number in zip(pixels.values, (0, 7), strict=True):
            low, high = voxels[number].min(), voxels[number].max()
            np.testing.assert_array_equal(values, np.rint((voxels[number] - low) / (high - low + 1e-5) * 255))


def test_evidence_of_published_slices_is_what_they_are(tmp_path: Path) -> None:
    pet_ct(tmp_path)
    dataset, (volume, *_) = pet_ct_volumes(tmp_path, recipe="published")
    values = dataset.read(volume).values
    np.testing.assert_array_equal(evidence(values), values)


# --- real scans ---------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_volumes_agree_with_nibabel_and_simpleitk(real_data: Path, name: str) -> None:
    path = real_data / name
    facts = header_facts(path, path.stat().st_size)
    pixels = read_slices(path, facts)
    expected = by_nibabel(path)
    np.testing.assert_allclose(pixels.values, expected[pixels.index], atol=1e-4)
    np.testing.assert_allclose(pixels.values, by_simpleitk(path)[pixels.index], atol=1e-4)
    assert len(pixels.index) + len(pixels.skipped) == len(expected)
    assert pixels.unit == ("arbitrary" if "AVM" in name else "HU")
    assert facts["spacing"] == pytest.approx(nibabel.as_closest_canonical(nibabel.load(path)).header.get_zooms())


@pytest.mark.real
def test_a_folder_of_real_volumes_and_a_dicom_series_is_accounted_for(real_data: Path) -> None:
    volumes, skipped = scan(real_data / "totalsegmentator")
    assert [volume.key for volume in volumes] == ["ct_cropped_lps.nii.gz", "example_ct.nii.gz", "example_ct_sm.nii.gz"]
    assert len(skipped) == 21  # the series and the licence
