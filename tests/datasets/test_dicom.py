"""The data set ``dicom`` on real scans, against SimpleITK, and on damaged files."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from ctkit.contracts import Pixels, Skipped, Volume
from ctkit.errors import DataError
from ctkit.files import read_csv
from ctkit_datasets.dicom import Dicom
from ctkit_datasets.filters import SeriesParams
from damage import mutate

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Scan = Callable[..., tuple[list[Volume], dict[str, str]]]


def scan_real(root: Path) -> tuple[Dicom, dict[str, Volume], dict[str, str]]:
    """Scan a folder: its volumes by the folder of their first file, and reasons by file."""
    dataset = Dicom(SeriesParams(root=root))
    found = [(file, dataset.inspect(file)) for file in dataset.files()]
    skipped = {facts.source: facts.reason for _, facts in found if isinstance(facts, Skipped)}
    volumes = {}
    for outcome in dataset.arrange((file, facts) for file, facts in found if not isinstance(facts, Skipped)):
        if isinstance(outcome, Volume):
            volumes[outcome.source(0).rpartition("/")[0]] = outcome
        else:
            skipped[outcome.source] = outcome.reason
    return dataset, volumes, skipped


def by_simpleitk(path: Path, pixels: bool) -> tuple[NDArray[np.float64], float]:
    """Hounsfield units of one file, and the height of its plane over the origin, in SimpleITK's geometry."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    normal = np.array(reader.GetDirection()).reshape(3, 3)[:, 2]
    values = SimpleITK.GetArrayFromImage(reader.Execute())[0] if pixels else np.zeros(0)
    return values.astype(np.float64), float(normal @ reader.GetOrigin())


REAL = {
    "lidc-idri/LIDC-IDRI/LIDC-IDRI-0001": (83, ()),
    "lidc-idri/LIDC-IDRI/LIDC-IDRI-0002": (24, ()),
    "lidc-idri/LIDC-IDRI/LIDC-IDRI-0003": (16, ()),
    "lidc-idri/LIDC-IDRI/LIDC-IDRI-0306": (123, ()),
    "quirks/ge-head-tilt-uneven": (
        28,
        ("uneven spacing 1.08 to 7 mm", "gantry tilt 18.5 degrees", "slice thickness 4 to 7 mm"),
    ),
    "quirks/philips-head": (54, ("gantry tilt 18.5 degrees",)),
    "totalsegmentator/jpeg2000-series": (20, ("no patient id in the header",)),
}


@pytest.mark.real
@pytest.mark.parametrize("folder", REAL)
def test_a_real_series_is_what_simpleitk_reads(real_data: Path, folder: str) -> None:
    dataset, volumes, _ = scan_real(real_data / folder)
    (volume,) = volumes.values()
    pixels = dataset.read(volume)
    assert (len(volume), volume.notes) == REAL[folder]
    assert pixels.unit == "HU"
    assert not pixels.skipped
    heights = []
    for index in range(len(volume)):
        path = real_data / folder / volume.source(index)
        expected, height = by_simpleitk(path, pixels=index % 5 == 0)
        heights.append(height)
        if expected.size:
            outside = is_padding(path, expected)
            np.testing.assert_array_equal(pixels.values[index], np.where(outside, -1024, expected))
    assert (np.diff(heights) > 0).all()
    assert volume.spacing[2] == pytest.approx(np.median(np.diff(heights)), abs=1e-5)


def is_padding(path: Path, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a slice, in HU, is no measurement: its padding value, or the one below air that all its corners have."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    declared = header.get("PixelPaddingValue", 0)
    declared = declared - 65536 if declared >= 32768 else declared  # some say that it is unsigned
    outside: NDArray[np.bool_] = values == (declared + header.RescaleIntercept if declared else np.nan)
    corners = {values[row, column] for row in (0, -1) for column in (0, -1)}
    if len(corners) == 1 and min(corners) < -1024:
        outside |= values == min(corners)
    return outside


@pytest.mark.real
def test_every_real_file_that_is_no_slice_is_left_out_with_its_reason(real_data: Path) -> None:
    _, volumes, skipped = scan_real(real_data)
    assert len(volumes) == 7
    reasons = {source: reason for source, reason in skipped.items() if source.startswith("quirks/philips-head")}
    assert reasons == {
        "quirks/philips-head/S1000/DIRFILE": "DICOMDIR: a directory of other files",
        "quirks/philips-head/S1000/I10": "localiser (image type LOCALIZER)",
        "quirks/philips-head/S2010/DIRFILE": "DICOMDIR: a directory of other files",
        "quirks/philips-head/S4010/DIRFILE": "DICOMDIR: a directory of other files",
        **{f"quirks/philips-head/S4010/I{number}0": "secondary capture" for number in range(1, 6)},
    }
    (truncated,) = (source for source in skipped if source.endswith("1-084.dcm"))
    assert skipped[truncated] == "truncated: 51,078 of 524,288 bytes of pixels are there"
    others = {reason for source, reason in skipped.items() if source not in reasons and source != truncated}
    assert others == {"not a DICOM file", "NIfTI, which data set nifti reads"}


def test_a_tree_of_links_is_walked_once(make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path) -> None:
    write_slices([make_slice(float(z)) for z in range(3)], [f"a/{number}" for number in range(3)])
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data", target_is_directory=True)
    (tmp_path / "data" / "broken").symlink_to(tmp_path / "nowhere")
    (volume,), skipped = scan()
    assert [file.path for file in volume.files] == ["a/0", "a/1", "a/2"]
    assert skipped == {"broken": "cannot be opened: No such file or directory"}


def test_a_volume_is_read_alike_after_it_was_written_as_json(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    write_slices(make_slice(float(z), PixelPaddingValue=-2000, RescaleSlope=str(z + 1)) for z in range(4))
    (volume,), _ = scan()
    dataset = Dicom(SeriesParams(root=tmp_path / "data"))
    again = replace(volume, details=json.loads(json.dumps(volume.details)))
    np.testing.assert_array_equal(dataset.read(again).values, dataset.read(volume).values)


def test_an_enhanced_image_is_a_volume_of_its_frames(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    stored = np.random.default_rng(1).integers(0, 3000, (4, 8, 8)).astype(np.int16)
    heights = [2.0, 0.0, 3.0, 1.0]
    write_slices([enhanced(make_slice, stored, heights)])
    (volume,), _ = scan()
    pixels = Dicom(SeriesParams(root=tmp_path / "data")).read(volume)
    assert volume.slices == ((0, 1), (0, 3), (0, 0), (0, 2))
    assert volume.spacing == (0.6, 0.5, 1.0)
    slopes = np.arange(1, 5)[np.argsort(heights), None, None]
    np.testing.assert_array_equal(pixels.values, stored[np.argsort(heights)] * slopes - 1000)


def test_a_compressed_enhanced_image_is_read(
    make_slice: Slices, write_slices: Write, scan: Scan, tmp_path: Path
) -> None:
    stored = np.random.default_rng(1).integers(0, 3000, (3, 8, 8)).astype(np.int16)
    data = enhanced(make_slice, stored, [0.0, 1.0, 2.0])
    data.compress("1.2.840.10008.1.2.5")
    write_slices([data])
    (volume,), _ = scan()
    pixels = Dicom(SeriesParams(root=tmp_path / "data")).read(volume, np.array([1]))
    np.testing.assert_array_equal(pixels.values[0], stored[1] * 2 - 1000)


def enhanced(make_slice: Slices, stored: NDArray[np.int16], heights: list[float]) -> Dataset:
    """An enhanced CT image: the slope of each frame is one more than its number."""
    frames = len(stored)
    data = make_slice(
        0.0,
        stored.reshape(-1, stored.shape[2]),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        Rows=stored.shape[1],
        NumberOfFrames=str(frames),
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        RescaleSlope=None,
        RescaleIntercept=None,
    )
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = ["0.5", "0.6"]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for number, height in enumerate(heights):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = ["0", "0", repr(height)]
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = str(number + 1)
        frame.PixelValueTransformationSequence[0].RescaleIntercept = "-1000"
        data.PerFrameFunctionalGroupsSequence.append(frame)
    return data


def test_two_reconstructions_of_one_scan_are_said_at_the_scan_and_noted(
    make_slice: Slices, write_slices: Write, tmp_path: Path, command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for number, kernel in enumerate(("B30f", "B70f", "DOE^JANE")):
        slices = [make_slice(float(z), SeriesInstanceUID=f"1.{number}", ConvolutionKernel=kernel) for z in range(3)]
        write_slices(slices, [f"{number}\r/{z}" for z in range(3)])  # a carriage return in a name is as any other
    code, out, _ = command("reduce", "data", "--dataset", "dicom", "--reducer", "every-n", "--out", "out", "--quiet")
    assert code == 0, out
    first, second, third = read_csv(tmp_path / "out" / "volumes.csv")
    assert [row["kernel"] for row in (first, second, third)] == ["B30f", "B70f", "other"]
    assert [row["thickness"] for row in (first, second, third)] == ["2.5"] * 3
    assert [row["notes"] for row in (first, second, third)] == ["", *[f"same scan as volume {first['volume']}"] * 2]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "DOE" not in page
    assert "same scan as volume" in page


# --- damaged files ------------------------------------------------------------------------------------------------


def scan_and_read(root: Path) -> tuple[int, int]:
    """Scan a folder and read what it holds; return how many files there are, and how many are accounted for."""
    dataset = Dicom(SeriesParams(root=root, min_slices=1, modality=("CT", "MR"), orientation="any"))
    found = [(file, dataset.inspect(file)) for file in dataset.files()]
    accounted = {file.path for file, facts in found if isinstance(facts, Skipped)}
    for outcome in dataset.arrange((file, facts) for file, facts in found if not isinstance(facts, Skipped)):
        if isinstance(outcome, Skipped):
            accounted.add(outcome.source)
            continue
        accounted |= {file.path for file in outcome.files}
        try:
            pixels = dataset.read(outcome)
        except DataError:
            continue
        assert_whole(outcome, pixels)
    return len(found), len(accounted)


def assert_whole(volume: Volume, pixels: Pixels) -> None:
    """Every slice of a volume is read or skipped, and what is read has values."""
    assert sorted([*pixels.index.tolist(), *(number for number, _ in pixels.skipped)]) == list(range(len(volume)))
    assert pixels.values.shape == (len(pixels.index), volume.rows, volume.columns)
    assert np.isfinite(pixels.values).all()


def seeds_of(make_slice: Slices, folder: Path, syntaxes: tuple[str, ...]) -> list[bytes]:
    """Whole files to be damaged: a plain slice, an enhanced image, a deflated slice, and others in other syntaxes."""
    y, x = np.mgrid[:64, :64]
    stored = (2000 + 1000 * np.sin(x / 9) * np.cos(y / 7)).astype(np.int16)
    kinds = [make_slice(0.0, stored), enhanced(make_slice, stored.reshape(4, 16, 64), [0, 1, 2, 3])]
    kinds.append(make_slice(2.0, stored))
    kinds[-1].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    for syntax in syntaxes:
        kinds.append(make_slice(1.0, stored))
        kinds[-1].compress(syntax)
    files = []
    for data in kinds:
        data.save_as(folder / "seed", enforce_file_format=True)
        files.append((folder / "seed").read_bytes())
    return files


def fuzz(seeds: list[bytes], folder: Path, seed: int, count: int) -> None:
    """Damage ``count`` files, scan and read them, and see that each is accounted for."""
    draw = random.Random(seed)
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}").write_bytes(mutate(draw.choice(seeds), draw))
    files, accounted = scan_and_read(folder)
    assert files == accounted == count


@pytest.mark.parametrize("seed", range(5))
def test_damaged_files_are_read_or_left_out_and_never_fatal(make_slice: Slices, tmp_path: Path, seed: int) -> None:
    fuzz(seeds_of(make_slice, tmp_path, (RLELossless,)), tmp_path / "damaged", seed, 100)


@pytest.mark.slow
@pytest.mark.real
def test_ten_thousand_damaged_files_are_never_fatal(make_slice: Slices, tmp_path: Path, real_data: Path) -> None:
    seeds = seeds_of(make_slice, tmp_path, (RLELossless, JPEG2000Lossless))
    folders = ("lidc-idri/LIDC-IDRI/LIDC-IDRI-0306", "quirks/ge-head-tilt-uneven", "totalsegmentator/jpeg2000-series")
    for folder in folders:
        seeds.append(next(path for path in sorted((real_data / folder).rglob("*")) if path.is_file()).read_bytes())
    for seed in range(100):
        fuzz(seeds, tmp_path / "damaged", seed, 100)
        shutil.rmtree(tmp_path / "damaged")
