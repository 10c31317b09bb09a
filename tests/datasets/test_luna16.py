"""LUNA16: series by their file names, and its tables of nodules and candidates as findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ctkit_datasets.luna16 import Luna16
from ctkit_datasets.nifti import NiftiParams

from .conftest import scan_folder

A, B = "1.3.6.1.4.1.14519.5.2.1.6279.6001.1", "1.3.6.1.4.1.14519.5.2.1.6279.6001.2"
HEADS = {
    "annotations.csv": "seriesuid,coordX,coordY,coordZ,diameter_mm",
    "candidates": "seriesuid,coordX,coordY,coordZ,class",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two subsets with a series each, slices at -100, -97.5, ... mm; the second one is stored from head to feet."""
    rng = np.random.default_rng(0)
    for subset, uid, up in (("subset0", A, 1), ("subset1", B, -1)):
        scan = SimpleITK.GetImageFromArray(rng.integers(-3024, 1000, (10, 8, 8)).astype(np.int16))
        scan.SetSpacing((0.7, 0.7, 2.5))
        scan.SetOrigin((-10, -20, -100 if up > 0 else -77.5))
        scan.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, up))
        lungs = SimpleITK.GetImageFromArray(rng.integers(3, 6, (10, 8, 8)).astype(np.uint8))
        for folder, image in ((subset, scan), ("seg-lungs-LUNA16", lungs)):
            (tmp_path / folder).mkdir(exist_ok=True)
            SimpleITK.WriteImage(image, str(tmp_path / folder / f"{uid}.mhd"))
    return tmp_path


def findings(root: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    dataset = Luna16(NiftiParams(root=root))
    return {volume.key: dict(dataset.facts(volume).findings) for volume in scan_folder(dataset)[0]}


def test_each_series_is_a_volume_in_hounsfield_units_and_masks_of_lungs_are_none(root: Path) -> None:
    dataset = Luna16(NiftiParams(root=root))
    volumes, skipped = scan_folder(dataset)
    assert [(volume.key, volume.patient) for volume in volumes] == [(A, A), (B, B)]
    assert {reason for path, reason in skipped.items() if path.startswith("seg")} == {"a segmentation of lungs"}
    for volume in volumes:
        pixels = dataset.read(volume)
        source = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(root / volume.files[0].path)), "LPS")
        expected = SimpleITK.GetArrayFromImage(source)
        assert pixels.unit == "HU"
        np.testing.assert_array_equal(pixels.values, np.where(expected > -2000, expected, -1024))
    (root / "subset2").mkdir()
    for suffix in ("mhd", "raw"):
        (root / "subset0" / f"{A}.{suffix}").rename(root / "subset2" / f"{B}.{suffix}")
    text = (root / "subset2" / f"{B}.mhd").read_text().replace(A, B)
    (root / "subset2" / f"{B}.mhd").write_text(text)
    assert {volume.key for volume in scan_folder(dataset)[0]} == {f"subset1/{B}.mhd", f"subset2/{B}.mhd"}


@pytest.mark.parametrize("folder", [".", "CSVFILES"])
def test_nodules_and_candidates_lie_on_the_slices_that_they_reach(root: Path, folder: str) -> None:
    assert findings(root) == {A: {}, B: {}}
    (root / folder).mkdir(exist_ok=True)
    rows = [f"{A},-8,-18,-90,10.1", f"{B},-8,-18,-80,0.5", "1.2.3,0,0,0,5", f"{A},-8,,-80,3"]
    (root / folder / "annotations.csv").write_text("\n".join([HEADS["annotations.csv"], *rows]) + "\n")
    nodule = {A: {"nodule": (2, 3, 4, 5, 6)}, B: {"nodule": (8,)}}  # -95 to -85 mm; the slice at -80
    assert findings(root) == nodule
    rows = [f"{A},-8,-18,-77.6,1", f"{A},-8,-18,-99,0", f"{A},-8,-18,400,0"]
    (root / folder / "candidates.csv").write_text("\n".join([HEADS["candidates"], *rows]) + "\n")
    candidates = {"candidate that is a nodule": (9,), "candidate that is not a nodule": (0,)}
    assert findings(root) == {
        A: nodule[A] | candidates,
        B: nodule[B] | dict.fromkeys(candidates, ()),
    }


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"seriesuid,coordX,coordY,coordZ,diameter_mm\nx,1,2\n", b"\xff\0"]
)
def test_tables_that_are_others_say_nothing(root: Path, content: bytes) -> None:
    (root / "annotations.csv").write_bytes(content)
    assert all(not any(found.values()) for found in findings(root).values())
