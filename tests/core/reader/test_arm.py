"""An arm opened again with its slices: what it chose, what it would choose, and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctkit
from ctkit import RevisitedArm, pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.contracts import Dataset
from ctkit.errors import LockedError, RequestError
from ctkit.files import read_csv, read_json
from ctkit.session import EVERYTHING, Only
from ctkit.slices import rendering
from ctkit.storage import RunFolder
from ctkit_datasets.phantom import Phantom, PhantomParams
from phantom_files import write_nifti

PHANTOM = PhantomParams(patients=3, slices=10, slice_spacing=4.0, matrix=64)
Open = Callable[..., RevisitedArm]


def made(
    tmp_path: Path,
    *reducers: dict[str, Any],
    images: bool = True,
    dataset: dict[str, Any] | None = None,
    only: str = "",
) -> Path:
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
        "compute": {"workers": 1},
        "report": {"images": images},
        "dataset": dataset or {"use": "phantom", "intensity": "lung"} | PHANTOM.model_dump(),
        "reduce": list(reducers),
    }
    registry = plugins.load()
    pipeline = pipeline_file.resolve(document, registry, tmp_path)
    part = Only(arm=frozenset({only})) if only else EVERYTHING
    runner.run(pipeline, registry, Console(quiet=True), "select", part)
    return tmp_path / "run"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Choose with a reducer, and open the arm."""
    with ExitStack() as stack:

        def _open(images: bool = True, **reducer: Any) -> RevisitedArm:
            run = made(tmp_path, {"id": "arm", **reducer}, images=images)
            return stack.enter_context(ctkit.open_run(run).revisit("arm"))

        yield _open


def test_it_is_what_the_folder_says_of_it(opened: Open) -> None:
    arm = opened(use="hash", threshold=4)
    rows, facts = read_csv(arm.folder.selection(None)), read_json(arm.folder.facts)
    assert (arm.name, arm.reducer, arm.address) == ("arm", "hash", facts["selections"][0])
    assert arm.knob is not None
    assert (arm.knob.name, arm.knob.unit, arm.selection.at) == ("threshold", "bits", (4.0,))
    assert arm.selection.kept.tolist() == [row["kept"] == "true" for row in rows]
    assert arm.selection.by.tolist() == [int(row["represented_by"] or -1) for row in rows]
    assert arm.index.tolist() == [int(row["index"]) for row in rows]
    assert [arm.pseudonym(number) for number in arm.volume.tolist()] == [row["volume"] for row in rows]
    assert len(arm.volumes) == 3
    assert arm.slices_of(1).tolist() == list(range(10, 20))


def test_it_says_what_another_threshold_would_keep(opened: Open) -> None:
    arm = opened(use="hash", threshold=4)
    same, wider = arm.select_at(4), arm.select_at(12)
    np.testing.assert_array_equal(same.kept, arm.selection.kept)
    assert wider.kept.sum() < arm.selection.kept.sum()
    curve = {row.at: row.kept for row in arm.write_curve()}
    assert (curve[4.0], curve[12.0]) == (same.kept.sum(), wider.kept.sum())
    assert arm.folder.curve.is_file()


def test_an_arm_that_draws_would_draw_with_the_seed_it_drew_with(opened: Open) -> None:
    arm = opened(use="random", share=0.5)
    np.testing.assert_array_equal(arm.select_at(0.5).kept, arm.selection.kept)


def test_distances_to_the_slice_before_are_the_reducers(opened: Open) -> None:
    arm = opened(use="hash", threshold=4)
    distances = arm.to_previous(arm.slices_of(2))
    assert np.isnan(distances[0])
    assert (distances[1:] == distances[1:].round()).all()
    stands_before = [n for n in arm.slices_of(2) if arm.selection.by[n] == n - 1]
    assert stands_before
    for number in stands_before:
        assert distances[number - 20] == arm.selection.distance[number]


@pytest.mark.parametrize("reducer", [{"use": "every-n", "n": 3}, {"use": "all"}], ids=str)
def test_a_reducer_that_compares_nothing_knows_no_distance(opened: Open, reducer: dict[str, Any]) -> None:
    arm = opened(**reducer)
    assert np.isnan(arm.to_previous(arm.slices_of(0))).all()


def test_an_arm_without_a_knob_has_no_curve(opened: Open) -> None:
    with pytest.raises(RequestError, match="arm 'arm' has no curve: all has no knob"):
        opened(use="all").write_curve()


def test_pictures_show_the_slices_in_the_training_rendering(opened: Open) -> None:
    arm = opened(use="all")
    images = arm.images(np.array([3, 12]))
    data = Phantom(PHANTOM)
    for number, (volume, index) in {3: (0, 3), 12: (1, 2)}.items():
        pixels = data.read(arm.volumes[volume], np.array([index]))
        (expected,) = rendering.training(pixels.values, pixels.unit, arm.levels, 128, arm.span(volume))
        np.testing.assert_array_equal(images[number], expected)
    assert arm.intensity == "lung"


def test_pictures_are_for_who_may_show_them(opened: Open) -> None:
    assert not opened(images=False, use="all").shows_images


def test_work_on_volumes_is_done_beside_and_a_lost_one_is_told(opened: Open) -> None:
    def lowest(dataset: Dataset[Any], item: tuple[int, Any]) -> float:
        number, volume = item
        if number == 1:
            raise SystemExit("gone")
        return float(dataset.read(volume, np.arange(len(volume))).values.min())

    arm = opened(use="all")
    done = arm.each_volume("look", lowest, enumerate(arm.volumes), total=3, name=lambda one: f"volume {one[0]}")
    assert {number: result for (number, _), result in done} == {0: arm.span(0)[0], 1: None, 2: arm.span(2)[0]}


def test_the_source_is_asked_for_its_facts(opened: Open) -> None:
    arm = opened(use="all")
    data = Phantom(PHANTOM)
    assert arm.facts() == {number: data.facts(volume) for number, volume in enumerate(arm.volumes)}
    assert (arm.dataset_name, arm.dataset.root, arm.dataset.dicom) == ("phantom", None, False)


def test_an_arm_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    run = made(tmp_path, {"use": "hash", "id": "hash6"})
    with (
        pytest.raises(RequestError, match="has no arm 'hahs6'; did you mean 'hash6'"),
        ctkit.open_run(run).revisit("hahs6"),
    ):
        pass


def test_without_the_cache_it_says_what_to_do(tmp_path: Path) -> None:
    run = made(tmp_path, {"use": "hash", "id": "hash6"})
    (tmp_path / ".cache").rename(tmp_path / "elsewhere")
    with (
        pytest.raises(RequestError, match="run it again, or set CTKIT_CACHE to its cache"),
        ctkit.open_run(run).revisit("hash6"),
    ):
        pass


def test_what_cannot_be_opened_in_the_data_blocks_no_arm(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_nifti(data, Phantom(PHANTOM))
    (data / "gone.nii.gz").symlink_to("../.git/annex/objects/x")
    run = made(tmp_path, {"use": "hash"}, dataset={"use": "nifti", "root": str(data)})
    with ctkit.open_run(run).revisit("hash") as arm:
        assert len(arm.volumes) == 3
        assert arm.write_curve()
    assert ctkit.open_run(run).skipped == {"cannot be read: No such file or directory": 1}
    (data / "phantom-0.nii.gz").unlink()
    with (
        pytest.raises(RequestError, match="the source files have changed since the scan"),
        ctkit.open_run(run).revisit("hash"),
    ):
        pass


def test_an_arm_needs_no_other_one_to_be_chosen(tmp_path: Path) -> None:
    arms = (
        {"use": "hash"},
        {"use": "ssim", "threshold": 0.3, "id": "ssim"},
        {"use": "random", "keep": {"like": "hash"}, "id": "alike"},
    )
    run = made(tmp_path, *arms, only="alike")
    for name in ("hash", "alike"):
        with ctkit.open_run(run).revisit(name) as arm:
            assert arm.selection.kept.sum() > 0
    with (
        pytest.raises(RequestError, match=r"3 volumes of 3 not described for it in the cache.*--only arm=ssim"),
        ctkit.open_run(run).revisit("ssim"),
    ):
        pass


def test_the_folder_is_held_while_an_arm_is_open_and_its_provenance_stays(tmp_path: Path) -> None:
    run = made(tmp_path, {"use": "all"})
    before = (run / "run.json").read_bytes()
    with ctkit.open_run(run).revisit("all") as arm:
        arm.facts()
        with pytest.raises(LockedError), RunFolder(run).locked():
            pass
    assert (run / "run.json").read_bytes() == before
