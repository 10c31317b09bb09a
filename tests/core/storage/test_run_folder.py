"""The run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from ctkit.errors import LockedError, RequestError
from ctkit.storage.run_folder import (
    ArmFolder,
    Outline,
    RunFolder,
    TrainingFolder,
    facts_beside,
    forget_on_request,
    place,
    read_provenance,
)


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), pytest.raises(LockedError, match="another process"), RunFolder(tmp_path / "run").locked():
        pass
    with folder.locked():
        pass


def test_who_only_asks_whether_a_folder_is_held_keeps_no_run_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = FileLock(tmp_path / ".lock")
    asking.acquire()
    monkeypatch.setattr("filelock._api.time.sleep", lambda seconds: asking.release())  # while the run waits for it
    with RunFolder(tmp_path).locked():
        assert RunFolder(tmp_path).is_live


def test_only_what_the_pipeline_expects_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    kept, stale = folder.arm("a").selection(None), folder.arm("b").selection(3)
    backbone = folder.pretrain("a", "old", 1).backbone
    for path in (kept, stale, backbone, tmp_path / "results.csv", tmp_path / "run.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    folder.keep_only({kept})
    left = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert left == [str(kept.relative_to(tmp_path)), "run.json"]
    assert not stale.parent.parent.exists()


def test_what_somebody_else_put_into_the_folder_stays(tmp_path: Path) -> None:
    notes = tmp_path / "arms" / "a" / "my notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("")
    RunFolder(tmp_path).keep_only(set())
    assert notes.exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RequestError, match=r"not a run folder but has 'thesis.tex'"), RunFolder(tmp_path).locked():
        pass
    (tmp_path / "run.json").write_text("{}")
    with RunFolder(tmp_path).locked():
        pass


def test_what_the_block_cannot_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), RunFolder(tmp_path / "run").locked():
        raise PermissionError(13, "Permission denied", "/data/list.txt")


def test_a_result_is_replaced_when_it_changes(tmp_path: Path) -> None:
    for text in ("one", "two"):
        source = tmp_path / text
        source.write_text(text)
        place(source, tmp_path / "run" / "result")
        place(source, tmp_path / "run" / "result")
        assert (tmp_path / "run" / "result").read_text() == text


def test_a_small_result_is_no_door_to_the_cache(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("cached")
    place(tmp_path / "x", tmp_path / "run" / "x")
    with (tmp_path / "run" / "x").open("a") as file:
        file.write(" and scribbled on")
    assert (tmp_path / "x").read_text() == "cached"


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_damaged_run_json_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert read_provenance(tmp_path) == {}


OUTLINE = Outline(
    selections=[("all", None), ("few", 42), ("few", 43)],
    trainings=[("few", "mean", 42)],
    baselines=[("raw", 42)],
    evaluations=[("coins", "guess", 0, 0.1)],
    images=True,
)


def test_a_pipeline_leaves_these_files(tmp_path: Path) -> None:
    files = {path.relative_to(tmp_path).as_posix() for path in RunFolder(tmp_path).files(OUTLINE)}
    arm = ("arm.json", "pictures.npz", "curve.csv", "curve.svg", "explain.html")
    trained = ("backbone.safetensors", "history.csv", "pretrain.json")
    made = [f"coins/guess/repeat-0-labels-0.1.{suffix}" for suffix in ("csv", "json")]
    assert files == {
        *("results.csv", "comparisons.csv", "leaks.csv", "mistakes.npz"),
        *("arms/all/selection.csv", "arms/few/draw-42/selection.csv", "arms/few/draw-43/selection.csv"),
        *(f"arms/{name}/{file}" for name in ("all", "few") for file in arm),
        *(f"{folder}/{file}" for folder in ("arms/few/mean/seed-42", "baselines/raw/seed-42") for file in trained),
        *(f"{folder}/{file}" for folder in ("arms/few/mean/seed-42", "baselines/raw/seed-42") for file in made),
    }


def test_a_pipeline_without_images_or_tasks_leaves_fewer(tmp_path: Path) -> None:
    whole = RunFolder(tmp_path).files(OUTLINE)
    dark = RunFolder(tmp_path).files(replace(OUTLINE, images=False))
    assert {path.name for path in whole - dark} == {"pictures.npz", "explain.html", "mistakes.npz"}
    untested = RunFolder(tmp_path).files(replace(OUTLINE, evaluations=[]))
    assert {path.name for path in dark - untested} == {
        *("results.csv", "comparisons.csv", "leaks.csv", "repeat-0-labels-0.1.csv", "repeat-0-labels-0.1.json"),
    }


def test_every_file_that_a_pipeline_leaves_is_removed_when_it_asks_for_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for path in folder.files(OUTLINE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    folder.keep_only(set())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_lies_there_is_found_again_by_number(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for seed in (10, 9):
        trained = folder.pretrain("few", "mean", seed)
        for path in (folder.arm("few").selection(seed), trained.facts, trained.predictions("coins", "guess", 0, 1.0)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    base = folder.baseline("raw", 9).predictions("coins", "guess", 2, 0.5)
    base.parent.mkdir(parents=True)
    base.write_text("")
    folder.arm("few").facts.write_text("")
    (arm,) = folder.arms
    assert arm == folder.arm("few")
    assert arm.selections == [arm.selection(9), arm.selection(10)]
    assert list(arm.trainings) == [("mean", seed, folder.pretrain("few", "mean", seed)) for seed in (9, 10)]
    assert [one[:7] for one in folder.predictions] == [
        ("few", "mean", 9, "coins", "guess", 0, 1.0),
        ("few", "mean", 10, "coins", "guess", 0, 1.0),
        ("raw", "", 9, "coins", "guess", 2, 0.5),
    ]
    assert list(folder.predictions)[-1][-1] == base


def test_what_tells_of_one_selection_goes_with_it(tmp_path: Path) -> None:
    arm = ArmFolder(tmp_path)
    for path in (arm.curve, arm.plot, arm.explanation, arm.pictures, arm.facts):
        path.write_text("")
    forget_on_request(arm)
    assert {path.name for path in tmp_path.iterdir()} == {"arm.json", "pictures.npz"}


def test_a_file_is_asked_of_a_folder_for_its_path_and_of_the_class_for_its_name(tmp_path: Path) -> None:
    assert TrainingFolder(tmp_path).backbone == tmp_path / TrainingFolder.backbone.name
    assert facts_beside(tmp_path / "repeat-0-labels-0.1.csv").name == "repeat-0-labels-0.1.json"
