from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from pydicom.dataset import Dataset

from ctkit.contracts import Skipped, Volume
from ctkit_datasets.filters import RecipeParams
from ctkit_datasets.lidc_idri import LidcIdri

Slices = Callable[..., Dataset]
Write = Callable[..., list[Path]]
Hashes = dict[str, NDArray[np.bool_]]  # by the published name of a slice


def scan(root: Path, **params: Any) -> tuple[LidcIdri, list[Volume], dict[str, str]]:
    dataset = LidcIdri(RecipeParams(root=root, **params))
    found = [(file, dataset.inspect(file)) for file in dataset.files()]
    outcomes: list[Volume | Skipped] = [facts for _, facts in found if isinstance(facts, Skipped)]
    outcomes += dataset.arrange((file, facts) for file, facts in found if not isinstance(facts, Skipped))
    skipped = {outcome.source: outcome.reason for outcome in outcomes if isinstance(outcome, Skipped)}
    return dataset, [outcome for outcome in outcomes if isinstance(outcome, Volume)], skipped


# --- the published recipe on real scans ---------------------------------------------------------------------------


def hashes_of(root: Path, rounding: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Hashes:
    """Hash every slice of the published recipe, in the order of the files."""
    dataset, volumes, _ = scan(root, recipe="published")
    hashes = {}
    for volume in volumes:
        pixels = dataset.read(volume)
        for index, values in zip(pixels.index, pixels.values.astype(np.float64), strict=True):
            grey = rounding((values - values.min()) * 255 / (values.max() - values.min()))
            hashes[volume.order[index]] = imagehash.dhash(Image.fromarray(grey.astype(np.uint8))).hash.ravel()
    return hashes


def greedy(names: Iterable[str], hashes: Hashes, threshold: int) -> set[str]:
    kept: list[str] = []
    for name in names:
        if all((hashes[name] != hashes[other]).sum() > threshold for other in kept):
            kept.append(name)
    return set(kept)


def by_patient(names: list[str], hashes: Hashes, threshold: int) -> set[str]:
    patients = dict.fromkeys(name.rpartition("_")[0] for name in names)
    groups = ([name for name in names if name.startswith(f"{patient}_")] for patient in patients)
    return set().union(*(greedy(group, hashes, threshold) for group in groups))


@pytest.mark.real
@pytest.mark.parametrize("manifest", ["", "LIDC-IDRI"], ids=["with the folder above", "without"])
def test_the_published_recipe_gives_the_published_selection(real_data: Path, manifest: str) -> None:
    hashes = hashes_of(real_data / "lidc-idri" / manifest, np.rint)
    names = sorted(hashes)
    assert len(names) == 246
    assert names[:3] == ["LIDC-IDRI-0001_0", "LIDC-IDRI-0001_1", "LIDC-IDRI-0001_10"]
    kept = {threshold: by_patient(names, hashes, threshold) for threshold in (2, 4, 6, 12)}
    assert {threshold: len(found) for threshold, found in kept.items()} == {2: 98, 4: 59, 6: 43, 12: 20}
    assert {t: len(greedy(names, hashes, t)) for t in kept} == {2: 98, 4: 59, 6: 43, 12: 20}


@pytest.mark.real
def test_the_published_order_and_rounding_differ_from_plausible_ones_as_is_known(real_data: Path) -> None:
    hashes = hashes_of(real_data / "lidc-idri", np.rint)
    kept = by_patient(sorted(hashes), hashes, 6)
    assert len(kept ^ by_patient(list(hashes), hashes, 6)) == 20  # file order
    truncated = hashes_of(real_data / "lidc-idri", np.floor)
    assert len(kept ^ by_patient(sorted(truncated), truncated, 6)) == 47


# --- the published recipe, rule by rule ---------------------------------------------------------------------------


def series_of(make_slice: Slices, write_slices: Write, folder: str, count: int, **changes: Any) -> None:
    slices = (make_slice(float(z), **changes) for z in range(count))
    write_slices(slices, [f"{folder}/1-{number:03d}.dcm" for number in range(1, count + 1)])


def test_published_series_are_folders_of_more_than_ten_entries_numbered_through(
    make_slice: Slices, write_slices: Write, tmp_path: Path
) -> None:
    series_of(make_slice, write_slices, "P2/a/x", 12)
    series_of(make_slice, write_slices, "P1/b/x", 10)
    series_of(make_slice, write_slices, "P1/a/x", 10)
    (tmp_path / "data" / "P1" / "a" / "x" / "annotation.xml").write_text("<x/>")
    _, volumes, skipped = scan(tmp_path / "data", recipe="published")
    assert [(volume.patient, volume.key, len(volume)) for volume in volumes] == [
        ("P1", "P1/a/x", 10),
        ("P2", "P2/a/x", 12),
    ]
    assert volumes[0].order == tuple(f"P1_{number}" for number in range(10))
    assert volumes[1].order == tuple(f"P2_{number}" for number in range(10, 22))
    assert skipped.pop("P1/a/x/annotation.xml") == "not a DICOM file"
    assert set(skipped.values()) == {"in a folder of no more than 10 entries"}
    assert len(skipped) == 10


def test_published_slices_keep_the_order_of_their_names(
    make_slice: Slices, write_slices: Write, tmp_path: Path
) -> None:
    write_slices((make_slice(float(-z)) for z in range(12)), [f"P/a/x/{number:02d}.dcm" for number in range(12)])
    write_slices([make_slice(0.0)], ["P/a/x/other"])
    _, (volume,), skipped = scan(tmp_path / "data", recipe="published")
    assert [volume.source(index) for index in range(12)] == [f"P/a/x/{number:02d}.dcm" for number in range(12)]
    assert skipped == {"P/a/x/other": "not named *.dcm"}


def test_a_truncated_file_takes_no_published_number(make_slice: Slices, write_slices: Write, tmp_path: Path) -> None:
    series_of(make_slice, write_slices, "P/a/x", 12)
    cut = tmp_path / "data" / "P" / "a" / "x" / "1-002.dcm"
    cut.write_bytes(cut.read_bytes()[:-100])
    _, (volume,), skipped = scan(tmp_path / "data", recipe="published")
    assert volume.order == tuple(f"P_{number}" for number in range(11))
    assert list(skipped) == ["P/a/x/1-002.dcm"]


@pytest.mark.parametrize(
    ("stored", "changes", "expected"),
    [
        pytest.param(-2000, {}, -1024, id="padding ends at the intercept"),
        pytest.param(100, {"RescaleIntercept": None}, 100 - 1024, id="a missing intercept is -1024"),
        pytest.param(100, {"RescaleSlope": "0.5"}, 50 - 1024, id="slope"),
        pytest.param(33, {"RescaleSlope": "0.5", "RescaleIntercept": "0"}, 16, id="truncated after the slope"),
        pytest.param(32000, {"RescaleIntercept": "1000"}, 33000 - 65536, id="16 bits wrap"),
    ],
)
def test_published_values(
    make_slice: Slices, write_slices: Write, tmp_path: Path, stored: int, changes: dict[str, Any], expected: int
) -> None:
    pixels = np.zeros((4, 4), np.int16)
    pixels[0, 0] = stored
    write_slices((make_slice(0.0, pixels, **changes) for _ in range(11)), [f"P/a/x/{n}.dcm" for n in range(11)])
    dataset, (volume,), _ = scan(tmp_path / "data", recipe="published")
    found = dataset.read(volume, np.array([3]))
    assert found.unit == "HU"
    assert found.values[0, 0, 0] == expected


def test_published_unsigned_values_wrap(make_slice: Slices, write_slices: Write, tmp_path: Path) -> None:
    pixels = np.full((4, 4), 40000, np.uint16)
    write_slices((make_slice(0.0, pixels) for _ in range(11)), [f"P/a/x/{n}.dcm" for n in range(11)])
    dataset, (volume,), _ = scan(tmp_path / "data", recipe="published")
    found = dataset.read(volume)
    assert len(found.index) == 11  # constant and repeated slices stay
    assert (found.values == np.int16(40000 - 65536 - 1024)).all()


def test_the_published_recipe_takes_no_filter(tmp_path: Path) -> None:
    RecipeParams(root=tmp_path, recipe="published", max_patients=1)
    with pytest.raises(ValidationError, match='recipe = "published" uses the files of the paper: remove kernel'):
        RecipeParams(root=tmp_path, recipe="published", kernel=("B30",))


def test_parameters_survive_being_written_and_read(tmp_path: Path) -> None:
    params = RecipeParams(root=tmp_path, recipe="published")
    assert RecipeParams.model_validate(params.model_dump(mode="json")) == params


# --- the standard recipe ------------------------------------------------------------------------------------------


def test_radiographs_and_annotations_beside_the_ct_are_left_out(
    make_slice: Slices, write_slices: Write, tmp_path: Path
) -> None:
    series_of(make_slice, write_slices, "LIDC-IDRI/P/a/ct", 4)
    series_of(make_slice, write_slices, "LIDC-IDRI/P/b/dx", 2, Modality="DX", SeriesInstanceUID="1.9")
    (tmp_path / "data" / "LIDC-IDRI" / "P" / "a" / "ct" / "069.xml").write_text("<x/>")
    _, (volume,), skipped = scan(tmp_path / "data")
    assert len(volume) == 4
    assert sorted(skipped.values()) == ["modality DX", "modality DX", "not a DICOM file"]


def test_the_first_patients_are_enough_for_trying_out(make_slice: Slices, write_slices: Write, tmp_path: Path) -> None:
    for patient in ("P1", "P2", "P3"):
        series_of(make_slice, write_slices, f"{patient}/a/x", 11, PatientID=patient)
    for recipe in ("standard", "published"):
        _, volumes, skipped = scan(tmp_path / "data", recipe=recipe, max_patients=2)
        assert [volume.patient for volume in volumes] == ["P1", "P2"]
        assert set(skipped.values()) == {"beyond the first 2 patients"}
