"""The run folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctkit.errors import LockedError
from ctkit.runs import RunFolder, place, read_provenance


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), pytest.raises(LockedError, match="another process"), RunFolder(tmp_path / "run").locked():
        pass
    with folder.locked():
        pass


def test_only_what_the_pipeline_expects_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    kept, stale = folder.selection("a", None), folder.selection("b", 3)
    for path in (kept, stale, folder.pretrain("a", "old", 1) / "x", tmp_path / "results.csv", tmp_path / "run.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    folder.keep_only({kept})
    left = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert left == [str(kept.relative_to(tmp_path)), "run.json"]
    assert not stale.parent.parent.exists()


def test_a_result_is_linked_and_replaced_when_it_changes(tmp_path: Path) -> None:
    for text in ("one", "two"):
        source = tmp_path / text
        source.write_text(text)
        place(source, tmp_path / "run" / "result")
        place(source, tmp_path / "run" / "result")
        assert (tmp_path / "run" / "result").read_text() == text


def test_a_result_is_copied_where_no_link_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "x").write_text("x")
    place(tmp_path / "x", tmp_path / "run" / "x")
    assert not (tmp_path / "run" / "x").samefile(tmp_path / "x")
    assert (tmp_path / "run" / "x").read_text() == "x"


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_damaged_run_json_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert read_provenance(tmp_path) == {}
