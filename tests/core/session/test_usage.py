"""The records of who uses what in a cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit.errors import StorageError
from ctkit.session.usage import FOLDER, Usage, users

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_record_on_a_full_disk_says_so(tmp_path: Path) -> None:
    with (
        FULL.open("wb", buffering=0) as file,
        pytest.raises(StorageError, match=f"disk is full: cannot write {tmp_path}"),
    ):
        Usage(tmp_path, tmp_path / "record", file, frozenset()).note(tmp_path / "scan" / "ab" / "ab12")


@pytest.mark.parametrize("rest", ["@", "@17", "@1790000000.000 /runs/ot", "scan/a"])
def test_a_record_that_was_cut_short_is_read_and_goes_on(tmp_path: Path, rest: str) -> None:
    run = tmp_path / "runs" / "a"
    with Usage.noting(tmp_path, run) as usage:
        usage.note(tmp_path / "scan" / "ab" / "ab12")
    (record,) = (path for path in (tmp_path / FOLDER).iterdir() if path.suffix != ".lock")
    with record.open("a") as file:
        file.write(rest)
    assert [(user.run, user.entries) for user in users(tmp_path)] == [(run, {"scan/ab/ab12"})]
    with Usage.noting(tmp_path, run) as usage:
        usage.note(tmp_path / "scan" / "cd" / "cd34")
    (user,) = users(tmp_path)
    assert user.run == run
    assert {"scan/ab/ab12", "scan/cd/cd34"} <= user.entries
