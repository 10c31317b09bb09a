"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ctkit.errors import StorageError
from ctkit.files import link, read_csv, write_csv, write_json, write_text, writing


def test_a_file_appears_with_its_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "ä\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "ä\n".encode()


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), writing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_with_the_path(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"the disk is full: cannot write .*x; 4 bytes were written"),
        writing(tmp_path / "x") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write .*file/x"):
        write_text(tmp_path / "file" / "x", "")


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, ("name", "kept", "by"), [("a,b", True, None), ('say "x"', False, 3)])
    assert path.read_text() == 'name,kept,by\n"a,b",true,\n"say ""x""",false,3\n'
    assert read_csv(path)[1] == {"name": 'say "x"', "kept": "false", "by": "3"}


@pytest.mark.parametrize("name", ["0cr\rx.dcm", "line\nbreak", "\r\n", "a,\rb", 'quo"te\r', "-x", " blank "])
def test_any_file_name_survives_in_a_row_that_stays_one(tmp_path: Path, name: str) -> None:
    write_csv(tmp_path / "t.csv", ("source", "kept"), [(name, True), ("plain", None)])
    assert read_csv(tmp_path / "t.csv") == [{"source": name, "kept": "true"}, {"source": "plain", "kept": ""}]


def test_a_file_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    name = b"scan-\xe4.dcm".decode("utf-8", "surrogateescape")
    write_csv(tmp_path / "t.csv", ("source",), [(name,)])
    assert read_csv(tmp_path / "t.csv") == [{"source": name}]
    assert b"scan-\xe4.dcm" in (tmp_path / "t.csv").read_bytes()


def test_json_is_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [1]})
    assert (tmp_path / "x.json").read_text().endswith("}\n")


def test_a_link_is_replaced_when_its_source_changes(tmp_path: Path) -> None:
    for text in ("one", "two"):
        source = tmp_path / text
        source.write_text(text)
        link(source, tmp_path / "run" / "result")
        link(source, tmp_path / "run" / "result")
        assert (tmp_path / "run" / "result").read_text() == text


def test_a_large_result_is_copied_where_no_link_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "x").write_text("x")
    link(tmp_path / "x", tmp_path / "run" / "x")
    assert not (tmp_path / "run" / "x").samefile(tmp_path / "x")
    assert (tmp_path / "run" / "x").read_text() == "x"
