"""The records of who uses what in a cache."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ctkit.errors import StorageError
from ctkit.session.usage import FOLDER, Usage, used_by, users
from ctkit.storage import Cache

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


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
@pytest.mark.parametrize(
    ("before", "after", "salt"),
    [(None, 0o700, 0o600), (0o755, 0o700, 0o600), (0o2775, 0o2770, 0o660), (0o2770, 0o2770, 0o660)],
    ids=["new", "older", "of a group, open to others", "of a group"],
)
def test_a_cache_is_its_users_alone_or_its_groups(
    tmp_path: Path, before: int | None, after: int, salt: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder, umask = tmp_path / "runs" / ".cache", os.umask(0o022)
    try:
        if before is not None:
            folder.mkdir(parents=True)
            (folder / "salt").write_bytes(b"0123456789abcdef")
            folder.chmod(before)
        for _ in range(2):
            with used_by(cache := Cache(folder), tmp_path / "runs" / "a"):
                cache.pseudonym("patient")
                cache.write("scores", "ab12", [])
            assert (mode(folder), mode(folder / "salt")) == (after, salt)
        assert mode(cache.path("scores", "ab12").parent) & 0o070 == (0o070 if after & stat.S_ISGID else 0o050)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(umask)
    assert not caplog.records


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_a_folder_that_holds_other_things_keeps_its_permissions_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "thumbnails").mkdir()
    tmp_path.chmod(0o755)
    with used_by(cache := Cache(tmp_path), tmp_path / "runs" / "a"):
        cache.pseudonym("patient")
    assert (mode(tmp_path), mode(tmp_path / "salt")) == (0o755, 0o600)
    assert [record.message.partition(",")[0] for record in caplog.records] == ["others may read the cache"]
