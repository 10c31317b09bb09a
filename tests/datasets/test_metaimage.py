"""MetaImage and NRRD come out as SimpleITK reads them, and a header opens no file outside of its folder."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from ctkit.contracts import Pixels, Volume
from ctkit.errors import DataError
from ctkit_datasets.metaimage import MetaImage
from ctkit_datasets.nifti import NiftiParams

from .conftest import scan_folder
from .test_nifti import body, mutated

SUFFIXES = (".mhd", ".mha", ".nrrd", ".nhdr")
MHD = """\
ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -1 -2 -3
ElementSpacing = 0.5 0.75 2.5
DimSize = 6 5 4
ElementType = MET_SHORT
ElementDataFile = {}
"""
NHDR = """\
NRRD0004
# a comment
type: int16
dimension: 3
space: {space}
sizes: 6 5 4
space directions: (0.5,0,0) (0,0.75,0) (0,0.1,2.5)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (-1,-2,-3)
thing:=some value
"""


def values(dtype: Any = np.int16) -> NDArray[Any]:
    """(slices, rows, columns), all different."""
    return (np.arange(120).reshape(4, 5, 6) * 7 - 1000).astype(dtype)


def image(array: NDArray[Any], direction: Any = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> SimpleITK.Image:
    found = SimpleITK.GetImageFromArray(array)
    found.SetSpacing((0.5, 0.75, 2.5))
    found.SetOrigin((-31.0, 12.5, 700.25))
    found.SetDirection([float(value) for value in direction])
    return found


def scan(root: Path, **params: Any) -> tuple[MetaImage, list[Volume], dict[str, str]]:
    dataset = MetaImage(NiftiParams(root=root, **params))
    return dataset, *scan_folder(dataset)


def only(root: Path, **params: Any) -> tuple[Volume, Pixels]:
    dataset, (volume,), skipped = scan(root, **params)
    assert skipped == {}
    return volume, dataset.read(volume)


def by_simpleitk(path: Path) -> NDArray[Any]:
    found = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    return np.asarray(SimpleITK.GetArrayFromImage(found))


# --- what is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("turn", range(0, 48, 7))
def test_any_orientation_is_as_simpleitk_reads_it(tmp_path: Path, suffix: str, compressed: bool, turn: int) -> None:
    turns = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
    order, signs = turns[turn]
    direction = np.zeros((3, 3))
    direction[list(order), range(3)] = signs
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image(values(), direction.ravel()), str(path), useCompression=compressed)
    volume, pixels = only(tmp_path, orientation="any")
    expected = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    np.testing.assert_array_equal(pixels.values, SimpleITK.GetArrayFromImage(expected))
    assert (pixels.unit, volume.spacing) == ("HU", pytest.approx(expected.GetSpacing()))
    places = MetaImage(NiftiParams(root=tmp_path)).places(volume, np.array([0, 2]))
    for place, k in zip(places, (0, 2), strict=True):
        x, y, z = expected.TransformIndexToPhysicalPoint((3, 1, k))
        np.testing.assert_allclose(place @ (3, 1, 1), (-x, -y, z), atol=1e-4)
    assert len(volume.files) == (2 if suffix in (".mhd", ".nhdr") else 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_real_type_is_read(tmp_path: Path, suffix: str, kind: str) -> None:
    stored = (np.arange(120).reshape(4, 5, 6) % 120).astype(kind)
    SimpleITK.WriteImage(image(stored), str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(only(tmp_path)[1].values, stored)


def test_byte_orders_offsets_and_older_words_are_read(tmp_path: Path) -> None:
    swapped = (
        MHD.replace("MSB = False", "MSB = True").replace("Offset", "Position").replace("TransformMatrix", "Rotation")
    )
    plain = values().tobytes()
    for name, header, data in (
        ("big", swapped, values(">i2").tobytes()),
        ("begins", MHD.replace("ElementData", "HeaderSize = 7\nElementData"), b"7 bytes" + plain),
        ("ends", MHD.replace("ElementData", "HeaderSize = -1\nElementData"), b"more" + plain),
        ("windows", MHD.replace("\n", "\r\n"), plain),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mhd").write_text(header.format("x.raw"), newline="")
        (tmp_path / name / "x.raw").write_bytes(data)
        np.testing.assert_array_equal(only(tmp_path / name)[1].values, values())


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "right-anterior-superior", "LAS", "scanner-xyz"])
def test_spaces_of_nrrd_are_those_that_itk_knows(tmp_path: Path, space: str, attached: bool) -> None:
    header, path = NHDR.format(space=space), tmp_path / ("a.nrrd" if attached else "a.nhdr")
    path.write_bytes(header.encode() + (b"\n" + values().tobytes() if attached else b"data file: a.raw\n"))
    if not attached:
        (tmp_path / "a.raw").write_bytes(values().tobytes())
    volume, pixels = only(tmp_path)
    source = SimpleITK.ReadImage(str(path))
    expected = SimpleITK.DICOMOrient(source, "LPS")
    np.testing.assert_array_equal(pixels.values, SimpleITK.GetArrayFromImage(expected))
    (place,) = MetaImage(NiftiParams(root=tmp_path)).places(volume, np.array([1]))
    x, y, z = expected.TransformIndexToPhysicalPoint((2, 3, 1))
    np.testing.assert_allclose(place @ (2, 3, 1), (-x, -y, z), atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: int16", "type: signed short int"),
        ("type: int16", "type: short"),
        ("space: RAS", "space dimension: 3"),
        ("space directions: (0.5,0,0) (0,0.75,0) (0,0.1,2.5)", "spacings: 0.5 0.75 2.5"),
        ("encoding: raw\n", "encoding: raw\nbyte skip: -1\n"),
    ],
)
def test_spellings_of_nrrd_are_read(tmp_path: Path, old: str, new: str) -> None:
    header = NHDR.format(space="RAS").replace(old, new)
    if "spacings" in new:
        header = header.replace("space: RAS\n", "").replace("space origin: (-1,-2,-3)\n", "")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"\n" + values().tobytes())
    np.testing.assert_array_equal(only(tmp_path)[1].values, by_simpleitk(tmp_path / "a.nrrd"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_units_and_label_maps_are_told_as_of_nifti(tmp_path: Path, suffix: str) -> None:
    stored = body().transpose(2, 1, 0).copy()
    stored[2, 3, :4], stored[3, 15, 15] = -3.4e38, 40000
    SimpleITK.WriteImage(image(stored), str(tmp_path / f"scan{suffix}"))
    SimpleITK.WriteImage(image((stored > 500).astype(np.uint8)), str(tmp_path / f"mask{suffix}"), useCompression=True)
    dataset, (volume,), skipped = scan(tmp_path)
    assert skipped.pop(f"mask{suffix}") == "a label map: whole numbers from 0 on, 2 different ones"
    assert all("nor the voxels of a used volume" in reason for reason in skipped.values())
    pixels = dataset.read(volume)
    assert (pixels.unit, pixels.values.max()) == ("HU", body().max())
    assert pixels.notes == ("voxels out of range, clipped: 1", "NaN voxels, replaced by air: 4")
    assert dict(dataset.facts(volume).findings) == {"label": (0, 1, 2, 3, 4, 5)}


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../secret.raw", "outside its folder"),
        ("sub/../../secret.raw", "outside its folder"),
        ("/{root}/secret.raw", "outside its folder"),
        ("..\\secret.raw", "outside its folder"),
        ("C:\\secret.raw", "outside its folder"),
        ("link.raw", "outside its folder"),
        ("linked/secret.raw", "outside its folder"),
        ("LIST", "several files"),
        ("LIST 2", "several files"),
        ("x%03d.raw 1 4 1", "several files"),
        ("gone.raw", "no such file"),
        ("short.raw", "truncated"),
        ("\udcff\x01", "no such file"),
    ],
)
@pytest.mark.parametrize("header", ["a.mhd", "a.nhdr"])
def test_voxels_elsewhere_are_not_opened(tmp_path: Path, header: str, name: str, reason: str) -> None:
    secret, folder = tmp_path / "secret.raw", tmp_path / "data"
    folder.mkdir()
    (tmp_path / "there").mkdir()
    for path in (secret, tmp_path / "there" / "secret.raw"):
        path.write_bytes(values().tobytes())
    (folder / "link.raw").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path / "there")
    (folder / "short.raw").write_bytes(values().tobytes()[:-2])
    name = name.format(root=str(tmp_path).lstrip("/"))
    text = MHD.format(name) if header == "a.mhd" else NHDR.format(space="LPS") + f"data file: {name}\n"
    (folder / header).write_bytes(text.encode("utf-8", "surrogateescape"))
    SimpleITK.WriteImage(image(values()), str(folder / "good.mha"))
    _, volumes, skipped = scan(folder)
    assert [volume.key for volume in volumes] == ["good.mha"]
    assert reason in skipped[header]


def test_a_link_that_leads_out_since_the_scan_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(values().tobytes())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mhd").write_text(MHD.format("a.raw"))
    (tmp_path / "data" / "a.raw").write_bytes(values().tobytes())
    dataset, (volume,), _ = scan(tmp_path / "data")
    (tmp_path / "data" / "a.raw").unlink()
    (tmp_path / "data" / "a.raw").symlink_to("../secret.raw")
    with pytest.raises(DataError, match="its voxels are outside its folder"):
        dataset.read(volume)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("DimSize = 6 5 4", "DimSize = 6 5", "invalid dimensions"),
        ("DimSize = 6 5 4", "DimSize = 6 -5 4", "invalid dimensions"),
        ("DimSize = 6 5 4", "DimSize = 6 x 4", "invalid number"),
        ("DimSize = 6 5 4", "DimSize = 60000 60000 60000", "asks for 432,000,000,000,000 bytes"),
        ("NDims = 3", "NDims = 2", "invalid dimensions"),
        ("NDims = 3\n", "", "invalid dimensions"),
        ("MET_SHORT", "MET_SHORT_ARRAY", "not integers or real numbers"),
        ("ElementType", "ElementNumberOfChannels = 3\nElementType", "several values for each voxel"),
        ("BinaryData = True", "BinaryData = False", "written as text"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0", "numbers are missing"),
        ("ElementDataFile = LOCAL\n", "", "not a MetaImage file"),
        ("ObjectType = Image", "ObjectType = Tube", "not a MetaImage file"),
        ("ObjectType = Image", "\0\1\2", "not a MetaImage file"),
    ],
)
def test_damaged_headers_are_left_out_with_the_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = MHD.format("LOCAL").replace(old, new)
    (tmp_path / "a.mha").write_bytes(text.encode() + values().tobytes())
    _, volumes, skipped = scan(tmp_path)
    assert volumes == []
    assert reason in skipped["a.mha"]


@pytest.mark.parametrize(
    ("old", "new", "spacing", "notes"),
    [
        ("0.5 0.75 2.5", "0.5 0 2.5", (0.5, None, 2.5), 1),
        ("0.5 0.75 2.5", "nan 0.75 inf", (None, 0.75, None), 1),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 1 0", (0.5, 0.75, 2.5), 1),
        ("1 0 0 0 1 0 0 0 1", "nan 0 0 0 1 0 0 1 0", (0.5, 0.75, 2.5), 1),
        ("Offset = -1 -2 -3", "Offset = nan -2 -3", (0.5, 0.75, 2.5), 0),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", "", (0.5, 0.75, 2.5), 1),
        ("ElementSpacing = 0.5 0.75 2.5\n", "", (1.0, 1.0, 1.0), 0),
    ],
)
def test_a_number_that_pixels_do_not_need_costs_nothing(
    tmp_path: Path, old: str, new: str, spacing: Any, notes: int
) -> None:
    (tmp_path / "a.mha").write_bytes(MHD.format("LOCAL").replace(old, new).encode() + values().tobytes())
    volume, pixels = only(tmp_path)
    np.testing.assert_array_equal(pixels.values, values())
    assert (volume.spacing, len(volume.notes)) == (spacing, notes)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_colours_pictures_and_volumes_in_time_are_left_out(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    colours = SimpleITK.GetImageFromArray(rng.integers(0, 255, (4, 5, 6, 3)).astype(np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(tmp_path / f"colours{suffix}"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values()[0]), str(tmp_path / f"picture{suffix}"))
    moving = SimpleITK.GetImageFromArray(np.stack([values(), values()]), isVector=False)
    SimpleITK.WriteImage(moving, str(tmp_path / f"time{suffix}"))
    _, volumes, skipped = scan(tmp_path)
    assert volumes == []
    assert "several values for each voxel" in skipped[f"colours{suffix}"]
    assert skipped[f"picture{suffix}"] == "2-D, not a volume"
    assert skipped[f"time{suffix}"].startswith("4-D: 2 volumes in one file")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path: Path, compressed: bool) -> None:
    text = MHD.replace("DimSize = 6 5 4", "DimSize = 300 300 300").replace("= False\nT", f"= {compressed}\nT")
    (tmp_path / "a.mha").write_bytes(text.format("LOCAL").encode() + b"few voxels")
    tracemalloc.start()
    dataset, volumes, skipped = scan(tmp_path)
    for volume in volumes:
        with pytest.raises(DataError, match="damaged"):
            dataset.read(volume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(volumes), len(skipped)) == ((1, 0) if compressed else (0, 1))
    assert peak < 10e6


@pytest.mark.parametrize("keep", [0, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_truncated_file_costs_itself_alone(tmp_path: Path, suffix: str, compressed: bool, keep: float) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    for name in ("bad", "good"):
        SimpleITK.WriteImage(image(noise), str(tmp_path / f"{name}{suffix}"), useCompression=compressed)
    content = (tmp_path / f"bad{suffix}").read_bytes()
    (tmp_path / f"bad{suffix}").write_bytes(content[: int(keep * len(content))])
    dataset, volumes, skipped = scan(tmp_path)
    assert len(volumes) + len(skipped) == 2
    for volume in volumes:
        if volume.key.startswith("bad"):
            with pytest.raises(DataError, match=r"damaged|truncated"):
                dataset.read(volume)
        else:
            np.testing.assert_array_equal(dataset.read(volume).values, noise)


def test_files_of_voxels_are_accounted_for_with_their_headers(tmp_path: Path) -> None:
    for name in ("a.mhd", "b.mhd"):
        (tmp_path / name).write_text(MHD.format("x.raw"))
    (tmp_path / "x.raw").write_bytes(values().tobytes())
    (tmp_path / "y.zraw").write_bytes(b"")
    _, (volume,), skipped = scan(tmp_path)
    assert [file.path for file in volume.files] == ["a.mhd", "x.raw"]
    assert set(skipped) == {"b.mhd", "y.zraw"}
    (tmp_path / "x.mhd").write_text(MHD.format("./x.raw"))  # whose name is the voxels'
    _, (volume,), skipped = scan(tmp_path)
    assert volume.key == "x.mhd"
    assert skipped["a.mhd"] == "another header names the same file of voxels"
    (tmp_path / "x.mhd").unlink()
    assert scan(tmp_path, min_slices=9)[2].keys() == {"a.mhd", "b.mhd", "x.raw", "y.zraw"}
    assert scan(tmp_path, include=["b*"])[1][0].files[0].path == "b.mhd"


def test_voxels_may_have_the_name_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text(MHD.format("a.img"))
    for name in ("a.img", "b.img"):
        (tmp_path / name).write_bytes(values().tobytes())
    _, (volume,), skipped = scan(tmp_path)
    assert [file.path for file in volume.files] == ["a.mhd", "a.img"]
    assert skipped == {"b.img": "a format that no data set reads: save it as .nii.gz"}


def test_a_change_of_the_voxels_changes_the_volume(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text(MHD.format("x.raw"))
    (tmp_path / "x.raw").write_bytes(values().tobytes())
    _, (before,), _ = scan(tmp_path)
    (tmp_path / "x.raw").write_bytes(values().tobytes() + b"more")
    _, (after,), _ = scan(tmp_path)
    assert before.files[1].size != after.files[1].size


# --- fuzz ---------------------------------------------------------------------------------------------------------


def _fuzz(tmp_path: Path, suffix: str, compressed: bool, count: int) -> dict[str, int]:
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image(body().transpose(2, 1, 0)), str(path), useCompression=compressed)
    original, rng = path.read_bytes(), np.random.default_rng(11)
    outcomes = {"read": 0, "left out": 0, "damaged": 0}
    for _ in range(count):
        path.write_bytes(mutated(original, rng))
        dataset, volumes, _ = scan(tmp_path)
        outcomes["left out"] += not volumes
        for volume in volumes:
            try:
                pixels = dataset.read(volume)
            except DataError:
                outcomes["damaged"] += 1
            else:
                assert np.isfinite(pixels.values).all()
                assert len(pixels.index) + len(pixels.skipped) == len(volume)
                outcomes["read"] += 1
    return outcomes


FUZZED = [(suffix, compressed) for suffix in SUFFIXES for compressed in (False, True)]


@pytest.mark.parametrize(("suffix", "compressed"), FUZZED)
def test_no_mutated_file_crashes(tmp_path: Path, suffix: str, compressed: bool) -> None:
    assert sum(_fuzz(tmp_path, suffix, compressed, 25).values()) == 25


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "compressed"), FUZZED)
def test_no_mutated_file_of_thousands_crashes_or_takes_much_memory(
    tmp_path: Path, suffix: str, compressed: bool
) -> None:
    tracemalloc.start()
    outcomes = _fuzz(tmp_path, suffix, compressed, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(suffix, compressed, outcomes, f"{peak / 1e6:.1f} MB")  # noqa: T201  # said of a slow test
    assert sum(outcomes.values()) == 1000
    assert outcomes["left out"] > 50
    assert peak < 100e6
