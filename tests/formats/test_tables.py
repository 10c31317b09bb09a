from __future__ import annotations

from pathlib import Path

import pytest

from ctkit.errors import DataError, RequestError
from ctkit_formats.tables import labelled, rows_of, text_of


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_text_is_read_by_its_mark_or_as_latin_1(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("e") else ""
    (tmp_path / "a.csv").write_bytes((mark + "größe\r\n").encode(encoding))
    assert text_of(tmp_path / "a.csv") == "größe\r\n"


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"PK\3\4\0\xff")
    with pytest.raises(DataError, match="it is not UTF-8, UTF-16 or Latin-1 text"):
        text_of(tmp_path / "a.csv")
    with pytest.raises(DataError, match="No such file"):
        text_of(tmp_path / "b.csv")


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id, label\n\n7, 1\n8\n9,0,more\n")
    assert list(rows_of(tmp_path / "a.csv")) == [
        (3, {"id": "7", "label": "1"}), (4, {"id": "8", "label": ""}), (5, {"id": "9", "label": "0"}),
    ]  # fmt: skip


def test_contradictions_are_errors_and_doubles_are_kept(tmp_path: Path) -> None:
    entries = [(2, "a", 0), (3, "b", 1), (4, "a", 0)]
    assert list(labelled(tmp_path, entries)) == [("a", 0), ("b", 1), ("a", 0)]
    with pytest.raises(RequestError, match="lines 3 and 9 give one image different labels"):
        list(labelled(tmp_path, [*entries, (9, "b", 0)]))
