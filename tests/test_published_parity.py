"""The hash arm keeps exactly what the published algorithm keeps. The oracle here shares no code with ctkit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from ctkit import pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.files import read_csv

pytestmark = pytest.mark.real
THRESHOLDS = range(17)
COUNTS = {2: 98, 4: 59, 6: 43, 12: 20}  # measured with the published scripts on these four patients


@dataclass(frozen=True)
class Slice:
    """A slice as the oracle sees it."""

    patient: str
    series: str
    name: str
    source: str
    height: float
    code: imagehash.ImageHash


# --- the oracle ---------------------------------------------------------------------------------------------------


def published_slices(root: Path) -> list[Slice]:
    """The published preprocessing: file order, a counter over the run, padding and rounding as its script has them."""
    slices = []
    counter = 0
    for patient in sorted(folder for folder in (root / "LIDC-IDRI").iterdir() if folder.is_dir()):
        for study in sorted(folder for folder in patient.iterdir() if folder.is_dir()):
            for series in sorted(folder for folder in study.iterdir() if folder.is_dir()):
                if len(list(series.iterdir())) <= 10:
                    continue
                for path in sorted(series.glob("*.dcm")):
                    dataset = pydicom.dcmread(path)
                    try:
                        pixels = dataset.pixel_array.astype(np.int16)
                    except ValueError:  # truncated
                        continue
                    pixels[pixels == -2000] = 0
                    values = pixels * float(dataset.RescaleSlope) + float(dataset.get("RescaleIntercept", -1024))
                    name = f"{patient.name}_{counter}"
                    counter += 1
                    slices.append(oracle_slice(root, patient.name, name, path, dataset, values))
    return slices


def standard_slices(root: Path) -> list[Slice]:
    """Hounsfield units; what fills the corners outside a round field of view becomes air."""
    slices = []
    for path in sorted(root.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        try:
            pixels = dataset.pixel_array.astype(np.int64)
        except ValueError:
            continue
        values = pixels * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        corner = values[0, 0]
        if corner < -1024 and corner == values[0, -1] == values[-1, 0] == values[-1, -1]:
            values[values == corner] = -1024
        slices.append(oracle_slice(root, dataset.PatientID, "", path, dataset, values))
    return slices


def oracle_slice(
    root: Path, patient: str, name: str, path: Path, dataset: pydicom.Dataset, values: NDArray[np.float64]
) -> Slice:
    grey = np.rint((values - values.min()) * 255 / (values.max() - values.min())).astype(np.uint8)
    return Slice(
        patient,
        str(dataset.SeriesInstanceUID),
        name,
        path.relative_to(root).as_posix(),
        float(dataset.ImagePositionPatient[2]),
        imagehash.dhash(Image.fromarray(grey)),
    )


def greedy(slices: Iterable[Slice], threshold: int) -> set[str]:
    kept: list[Slice] = []
    for one in slices:
        if all(one.code - other.code > threshold for other in kept):
            kept.append(one)
    return {one.source for one in kept}


def by_group(slices: list[Slice], group: str, order: str, threshold: int) -> set[str]:
    names = sorted({getattr(one, group) for one in slices})
    return set().union(
        *(
            greedy(sorted((s for s in slices if getattr(s, group) == name), key=lambda s: getattr(s, order)), threshold)
            for name in names
        )
    )


# --- ctkit --------------------------------------------------------------------------------------------------------


def kept_by_ctkit(root: Path, folder: Path, recipe: str, scopes: Iterable[str]) -> dict[tuple[str, int], set[str]]:
    """One run with an arm for each scope and threshold."""
    arms = [
        {"id": f"{scope}-{threshold}", "use": "hash", "threshold": threshold, "scope": scope}
        for scope in scopes
        for threshold in THRESHOLDS
    ]
    document = {
        "run": {"name": recipe, "out": str(folder / recipe)},
        "dataset": {"use": "lidc-idri", "root": str(root), "recipe": recipe},
        "reduce": arms,
        "report": {"images": False},
    }
    resolved = pipeline_file.resolve(document, plugins.load(), folder)
    run = runner.run(resolved, plugins.load(), Console(quiet=True), "select")
    return {
        (scope, threshold): {
            row["source"] for row in read_csv(run.arm(f"{scope}-{threshold}").selection(None)) if row["kept"] == "true"
        }
        for scope in scopes
        for threshold in THRESHOLDS
    }


def test_the_published_recipe_keeps_what_the_published_algorithm_keeps(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "lidc-idri"
    slices = published_slices(root)
    kept = kept_by_ctkit(root, tmp_path, "published", ("patient", "dataset"))
    assert len(slices) == 246
    for threshold, count in COUNTS.items():
        assert len(kept["patient", threshold]) == count
        assert len(kept["dataset", threshold]) == count
    for threshold in THRESHOLDS:
        assert kept["patient", threshold] == by_group(slices, "patient", "name", threshold)
        assert kept["dataset", threshold] == greedy(sorted(slices, key=lambda one: one.name), threshold)


def test_the_standard_recipe_keeps_what_a_plain_loop_in_z_order_keeps(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "lidc-idri"
    slices = standard_slices(root)
    kept = kept_by_ctkit(root, tmp_path, "standard", ("volume", "patient", "dataset"))
    ordered = sorted(slices, key=lambda one: (one.patient, one.series, one.height))
    for threshold in THRESHOLDS:
        assert kept["volume", threshold] == by_group(slices, "series", "height", threshold)
        assert kept["patient", threshold] == by_group(slices, "patient", "height", threshold)
        assert kept["dataset", threshold] == greedy(ordered, threshold)
