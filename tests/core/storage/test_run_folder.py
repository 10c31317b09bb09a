"""The run folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from ctkit.errors import LockedError, RequestError
from ctkit.files import link
from ctkit.storage.run_folder import RunFolder, place, read_provenance


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), pytest.raises(LockedError, match="another process"), RunFolder(tmp_path / "run").locked():
        pass
    with folder.locked():
        pass


def test_who_only_asks_whether_a_folder_is_held_keeps_no_run_from_it(tmp_path: Path) -> None:
    asking = FileLock(tmp_path / ".lock", thread_local=False)
    asking.acquire()
    threading.Timer(0.1, asking.release).start()
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
    with pytest.raises(RequestError, match=r"no run folder but holds 'thesis.tex'"), RunFolder(tmp_path).locked():
        pass
    (tmp_path / "run.json").write_text("{}")
    with RunFolder(tmp_path).locked():
        pass


def test_what_the_block_cannot_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), RunFolder(tmp_path / "run").locked():
        raise PermissionError(13, "Permission denied", "/data/list.txt")


@pytest.mark.parametrize("put", [link, place])
def test_a_result_is_replaced_when_it_changes(tmp_path: Path, put: Callable[[Path, Path], None]) -> None:
    for text in ("one", "two"):
        source = tmp_path / text
        source.write_text(text)
        put(source, tmp_path / "run" / "result")
        put(source, tmp_path / "run" / "result")
        assert (tmp_path / "run" / "result").read_text() == text


def test_a_small_result_is_no_door_to_the_cache(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("cached")
    place(tmp_path / "x", tmp_path / "run" / "x")
    with (tmp_path / "run" / "x").open("a") as file:
        file.write(" and scribbled on")
    assert (tmp_path / "x").read_text() == "cached"


def test_a_large_result_is_copied_where_no_link_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "x").write_text("x")
    link(tmp_path / "x", tmp_path / "run" / "x")
    assert not (tmp_path / "run" / "x").samefile(tmp_path / "x")
    assert (tmp_path / "run" / "x").read_text() == "x"


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_damaged_run_json_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert read_provenance(tmp_path) == {}
