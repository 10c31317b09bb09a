"""Exports: the kept slices and no others, named without patients, whole or not at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from ctkit import open_run, pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.contracts import SliceFormat, Volume
from ctkit.errors import DataError, RequestError
from ctkit.files import read_csv
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_exporters import slices as exporting
from phantom_files import write_dicom, write_nifti

PHANTOM = {"patients": 2, "slices": 8, "slice_spacing": 20.0, "matrix": 32}
Export = Callable[[SliceFormat, Path], int]


def run_of(
    tmp_path: Path,
    dataset: dict[str, Any],
    seed: int = 42,
    intensity: Any = "lung",
    reducer: dict[str, Any] | None = None,
) -> Export:
    """Choose every other slice, and return what exports them."""
    document = {
        "run": {"name": "x", "seed": seed, "out": str(tmp_path / "run")},
        "compute": {"workers": 1},
        "report": {"images": False},
        "dataset": dataset | {"intensity": intensity},
        "reduce": [reducer or {"use": "random", "share": 0.5, "id": "half"}],
    }
    registry, console = plugins.load(), Console(quiet=True)
    runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, console, "select")

    def _export(form: SliceFormat, out: Path) -> int:
        with open_run(tmp_path / "run").revisit("half", console) as opened:
            return exporting.export_slices(opened, form, out)

    return _export


@pytest.fixture
def phantom(tmp_path: Path) -> Export:
    """Exports of a phantom's run."""
    return run_of(tmp_path, {"use": "phantom"} | PHANTOM)


@pytest.fixture
def dicom(tmp_path: Path) -> Export:
    """Exports of a run on DICOM files, in a folder whose name must not show."""
    write_dicom(tmp_path / "MUELLER", Phantom(PhantomParams.model_validate(PHANTOM)))
    return run_of(tmp_path, {"use": "dicom", "root": str(tmp_path / "MUELLER")})


def kept(tmp_path: Path) -> dict[str, str]:
    """Source of each slice kept, by the name that it is exported under."""
    rows = read_csv(tmp_path / "run" / "arms" / "half" / "draw-42" / "selection.csv")
    return {f"{row['volume']}-{int(row['index']):05d}": row["source"] for row in rows if row["kept"] == "true"}


def test_pngs_are_the_training_rendering_at_the_full_matrix(tmp_path: Path, phantom: Export) -> None:
    assert phantom("png", tmp_path / "out") == 8
    written = {path.stem: path for path in (tmp_path / "out").rglob("*.png")}
    assert written.keys() == kept(tmp_path).keys()
    data = Phantom(PhantomParams.model_validate(PHANTOM))
    numbers = {key: int(source.rpartition("-")[2]) for key, source in kept(tmp_path).items()}
    for name, path in written.items():
        hu = data.read(data.volume(numbers[name]), np.array([int(name[-5:])])).values[0].astype(float)
        expected = np.clip((hu + 1350) / 1500, 0, 1) * 255  # centre -600, width 1500
        assert np.abs(np.asarray(Image.open(path)) - expected).max() <= 0.51


def test_nifti_files_hold_hounsfield_units_in_the_patients_frame(tmp_path: Path, phantom: Export) -> None:
    phantom("nifti", tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "slices.csv")
    assert {f"{row['volume']}-{int(row['index']):05d}" for row in rows} == kept(tmp_path).keys()
    data = Phantom(PhantomParams.model_validate(PHANTOM))
    numbers = {key[:16]: int(source.rpartition("-")[2]) for key, source in kept(tmp_path).items()}
    for file, part in itertools.groupby(rows, key=lambda row: row["file"]):
        image, of_file = nibabel.load(tmp_path / "out" / file), list(part)
        number = numbers[of_file[0]["volume"]]
        hu = data.read(data.volume(number), np.array([int(row["index"]) for row in of_file])).values
        closest = nibabel.as_closest_canonical(image)  # first axis to the right, second to the front
        np.testing.assert_array_equal(closest.get_fdata(), hu.transpose(2, 1, 0)[::-1, ::-1])
        assert closest.header.get_zooms()[0] == pytest.approx(data.volume(number).spacing[0])


def test_an_affine_takes_the_usual_distance_of_kept_slices() -> None:
    volume = Volume("k", "p", (), ((0, 0),) * 20, 8, 8, spacing=(0.7, 0.8, 2.5))
    assert np.diag(exporting.affine(volume, np.array([1, 3, 5, 11]))).tolist() == [-0.7, -0.8, 5.0, 1.0]
    assert np.diag(exporting.affine(volume, np.array([4]))).tolist() == [-0.7, -0.8, 2.5, 1.0]
    places = np.stack([np.column_stack([(-0.7, 0, 0), (0, -0.8, 0), (5, 6, z)]) for z in (10.0, 12.5, 20.0)])
    expected = [[-0.7, 0, 0, 5], [0, -0.8, 0, 6], [0, 0, 5.0, 10], [0, 0, 0, 1]]
    np.testing.assert_allclose(exporting.affine(volume, np.array([4, 5, 8]), places), expected)
    expected[2][2] = 2.5
    np.testing.assert_allclose(exporting.affine(volume, np.array([4]), places[:1]), expected)
    unknown = Volume("k", "p", (), ((0, 0),), 8, 8)
    assert np.diag(exporting.affine(unknown, np.array([0]))).tolist() == [-1, -1, 1, 1]


def at_world(image: Any, points: np.ndarray) -> np.ndarray:
    """Values of an image at points (n, 3) in mm to the right, front and head, which are voxels of it."""
    voxels = nibabel.affines.apply_affine(np.linalg.inv(image.affine), points)
    np.testing.assert_allclose(voxels, voxels.round(), atol=1e-3)
    return np.asarray(image.dataobj)[tuple(voxels.round().astype(int).T)]


EVERY_OTHER = {"use": "every-n", "n": 2, "id": "half"}


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_exported_nifti_lies_on_its_nifti_source(tmp_path: Path, axes: tuple[int, ...], tilt: float) -> None:
    affine = np.diag([-0.7, 0.8, 2.0, 1.0]) if tilt else np.diag([0.7, -0.8, -2.0, 1.0])
    affine[1, 2], affine[:3, 3] = tilt, (31.0, -120.5, 700.25)
    values = np.random.default_rng(0).integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    source = nibabel.Nifti1Image(values.transpose(axes), affine[:, [*axes, 3]])
    (tmp_path / "data").mkdir()
    nibabel.save(source, tmp_path / "data" / "a.nii.gz")
    run_of(tmp_path, {"use": "nifti", "root": str(tmp_path / "data")}, reducer=EVERY_OTHER)("nifti", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    exported = nibabel.load(path)
    assert exported.shape == (9, 8, 4)
    voxels = np.stack(np.meshgrid(*map(range, exported.shape), indexing="ij"), -1).reshape(-1, 3)
    points = nibabel.affines.apply_affine(exported.affine, voxels)
    np.testing.assert_array_equal(at_world(source, points), np.asarray(exported.dataobj).reshape(-1))


def test_exported_nifti_lies_on_its_dicom_source(tmp_path: Path) -> None:
    (file, *_) = write_dicom(tmp_path / "scan", Phantom(PhantomParams.model_validate(PHANTOM | {"patients": 1})))
    for path in file.parent.glob("*.dcm"):
        data = pydicom.dcmread(path)
        x, y, z = map(float, data.ImagePositionPatient)
        data.ImagePositionPatient = [x + 12.5, y - 3.25, z + 0.5 * z]
        data.ImageOrientationPatient = [0, 1, 0, -1, 0, 0]  # lies on the side, so that it is turned
        data.save_as(path)
    run_of(tmp_path, {"use": "dicom", "root": str(tmp_path / "scan")}, reducer=EVERY_OTHER)("nifti", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(file.parent)))
    source, exported = reader.Execute(), SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(exported)
    assert values.shape[0] == 4
    for k, j, i in itertools.product((0, 1, 3), (0, 5, 31), (0, 9, 31)):
        point = exported.TransformIndexToPhysicalPoint((i, j, k))
        assert source.GetPixel(source.TransformPhysicalPointToIndex(point)) == values[k, j, i]
    rows = read_csv(tmp_path / "out" / "slices.csv")
    assert [int(row["position"]) for row in rows] == [0, 1, 2, 3]
    heights = [float(pydicom.dcmread(tmp_path / "scan" / row["source"]).ImagePositionPatient[2]) for row in rows]
    assert [float(row["z"]) for row in rows] == pytest.approx(heights, abs=1e-4)


def test_dicom_files_are_links_whose_names_sort_and_tell_nothing(tmp_path: Path, dicom: Export) -> None:
    assert dicom("dicom", tmp_path / "out") == 8
    written = {path.stem: path for path in sorted((tmp_path / "out").rglob("*.dcm"))}
    sources = kept(tmp_path)
    assert list(written) == sorted(sources)
    for name, path in written.items():
        assert path.samefile(tmp_path / "MUELLER" / sources[name])
        assert path.parent.name == name[:16]
    assert not any("MUELLER" in str(path) for path in written.values())


def test_where_the_disk_has_no_links_files_are_copied(
    tmp_path: Path, dicom: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _no_links(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", _no_links)
    dicom("dicom", tmp_path / "out")
    for name, source in kept(tmp_path).items():
        copy = tmp_path / "out" / name[:16] / f"{name}.dcm"
        assert copy.read_bytes() == (tmp_path / "MUELLER" / source).read_bytes()
        assert not copy.samefile(tmp_path / "MUELLER" / source)


def test_a_list_names_every_kept_source(tmp_path: Path, dicom: Export) -> None:
    dicom("list", tmp_path / "out")
    lines = (tmp_path / "out" / "slices.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [str(tmp_path / "MUELLER" / source) for source in kept(tmp_path).values()]


@pytest.mark.parametrize("intensity", ["volume-min-max", {"centre": 50, "width": 350}])
def test_a_stopped_export_goes_on_and_ends_alike(tmp_path: Path, intensity: Any) -> None:
    phantom = run_of(tmp_path, {"use": "phantom"} | PHANTOM, intensity=intensity)
    phantom("png", tmp_path / "out")
    first, second, *_ = sorted((tmp_path / "out").rglob("*.png"))
    before, stamp = first.read_bytes(), second.stat().st_mtime_ns
    first.unlink()
    phantom("png", tmp_path / "out")
    assert first.read_bytes() == before
    assert second.stat().st_mtime_ns == stamp


def test_two_selections_never_mix_in_a_folder(tmp_path: Path, phantom: Export) -> None:
    phantom("png", tmp_path / "out")
    other = run_of(tmp_path, {"use": "phantom"} | PHANTOM, seed=43)
    with pytest.raises(RequestError, match="has the export of another selection"):
        other("png", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    with pytest.raises(RequestError, match="is not an empty folder"):
        other("png", tmp_path / "full")


@pytest.mark.parametrize("form", ["list", "dicom"])
def test_synthetic_data_has_no_sources(tmp_path: Path, phantom: Export, form: SliceFormat) -> None:
    with pytest.raises(RequestError, match=f"data set phantom has no source files to export as {form}"):
        phantom(form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_are_not_linked_as_dicom(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "patient"
    folder.mkdir(parents=True)
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    export = run_of(tmp_path, {"use": "images", "root": str(tmp_path / "images"), "min_slices": 1})
    with pytest.raises(RequestError, match="the source files of data set images are not DICOM"):
        export("dicom", tmp_path / "out")


def test_a_list_counts_slices_inside_files_that_hold_several(tmp_path: Path) -> None:
    (file, *_) = write_nifti(tmp_path / "scans", Phantom(PhantomParams.model_validate(PHANTOM | {"patients": 1})))
    run_of(tmp_path, {"use": "nifti", "root": str(tmp_path / "scans")})("list", tmp_path / "out")
    rows = read_csv(tmp_path / "run" / "arms" / "half" / "draw-42" / "selection.csv")
    lines = (tmp_path / "out" / "slices.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{file}\t{row['index']}" for row in rows if row["kept"] == "true"]


def test_names_with_line_breaks_are_exported_but_not_listed(tmp_path: Path) -> None:
    for path in write_dicom(tmp_path / "scan", Phantom(PhantomParams.model_validate(PHANTOM | {"patients": 1}))):
        path.rename(path.with_name(f"{path.stem}\rx\n.dcm"))
    export = run_of(tmp_path, {"use": "dicom", "root": str(tmp_path / "scan")})
    with pytest.raises(RequestError, match="has a line break"):
        export("list", tmp_path / "list")
    assert not (tmp_path / "list" / "slices.txt").exists()
    assert export("nifti", tmp_path / "nifti") == 4


def test_files_of_several_slices_are_not_linked(tmp_path: Path) -> None:
    phantom = Phantom(PhantomParams.model_validate(PHANTOM))
    write_nifti(tmp_path / "scans", phantom, "{patient}/study/CT.nii.gz")
    export = run_of(tmp_path, {"use": "pet-ct", "root": str(tmp_path / "scans")})
    with pytest.raises(RequestError, match="some source files have more than one slice"):
        export("dicom", tmp_path / "out")


def test_a_source_that_was_damaged_since_is_an_error(tmp_path: Path, dicom: Export) -> None:
    file = tmp_path / "MUELLER" / next(iter(kept(tmp_path).values()))
    stamp = file.stat()
    file.write_bytes(bytes(stamp.st_size))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DataError, match="slices that could not be read a second time: 1"):
        dicom("png", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 7
