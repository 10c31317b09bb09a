"""Addresses and entries."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit.errors import StorageError
from ctkit.files import write_json
from ctkit.storage.cache import LOCATION, SUMS, Cache, address

AT = address("scan", of="some files")


def test_an_address_depends_on_everything_but_the_order_of_names() -> None:
    one = address("scan", a=1, b=[1, 2])
    assert one == address("scan", b=[1, 2], a=1)
    assert len({one, address("scan", a=1, b=[2, 1]), address("select", a=1, b=[1, 2]), address("scan", a=1)}) == 4


def test_an_entry_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError), cache.entry("scan", "ab12") as folder:
        (folder / "half").write_text("x")
        raise ZeroDivisionError
    assert not cache.path("scan", "ab12").exists()
    with cache.entry("scan", "ab12") as folder:
        (folder / "whole").write_text("x")
        assert not cache.path("scan", "ab12").exists()
    assert (tmp_path / "scan" / "ab" / "ab12" / "whole").read_text() == "x"
    assert [path.name for path in (tmp_path / "scan" / "ab").iterdir()] == ["ab12"]


def test_of_two_writers_the_first_stands(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.entry("scan", "ab12") as slow:
        (slow / "x").write_text("slow")
        with cache.entry("scan", "ab12") as fast:
            (fast / "x").write_text("fast")
    assert (cache.path("scan", "ab12") / "x").read_text() == "fast"


def test_a_pseudonym_is_stable_in_a_cache_and_different_in_another(tmp_path: Path) -> None:
    one, other = Cache(tmp_path / "one"), Cache(tmp_path / "other")
    assert one.pseudonym("patient") == Cache(tmp_path / "one").pseudonym("patient")
    assert one.pseudonym("patient") != other.pseudonym("patient")
    assert one.pseudonym("patient") != one.pseudonym("patients")


def test_the_cache_lies_beside_the_runs_unless_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOCATION, raising=False)
    assert Cache.beside(tmp_path / "runs" / "a").folder == tmp_path / "runs" / ".cache"
    monkeypatch.setenv(LOCATION, str(tmp_path / "elsewhere"))
    assert Cache.beside(tmp_path / "runs" / "a").folder == tmp_path / "elsewhere"


def test_the_cache_of_a_folder_written_with_dots_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOCATION, raising=False)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert Cache.beside(Path("..")).folder == tmp_path / ".cache"


def test_a_kind_that_cleaning_would_not_find_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'new' is not a kind of entry"):
        Cache(tmp_path).path("new", "ab12")
    assert Cache(tmp_path).path("store/ab/ab12", "cd34").parts[-5:] == ("store", "ab", "ab12", "cd", "cd34")


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot create"),
        Cache(tmp_path / "file").workspace("pretrain", "ab"),
    ):
        pass


def test_a_workspace_is_held_by_one_at_a_time_and_outlives_what_goes_wrong(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt), cache.workspace("pretrain", "ab") as folder:
        assert folder is not None
        (folder / "step-3.ckpt").write_text("")
        raise KeyboardInterrupt
    with cache.workspace("pretrain", "ab") as folder:
        assert folder is not None
        assert (folder / "step-3.ckpt").exists()
        with Cache(tmp_path).workspace("pretrain", "ab") as second, cache.workspace("pretrain", "cd") as other:
            assert second is None
            assert other is not None
        assert folder.is_dir()
    assert not folder.exists()


def test_what_a_block_cannot_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Cache(tmp_path).entry("scan", "ab"):
        (tmp_path / "elsewhere" / "missing").read_text()


def test_a_name_that_is_no_utf_8_has_a_pseudonym(tmp_path: Path) -> None:
    assert len(Cache(tmp_path).pseudonym("M\udcfcller")) == 12


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("name", ["facts.json", "below/table.csv", SUMS])
@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES)
def test_an_entry_with_a_damaged_file_is_discarded_with_one_warning_and_made_anew(
    tmp_path: Path, damaged: Callable[[bytes], bytes], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> None:
        with Cache(tmp_path).entry("scan", "ab12") as folder:
            (folder / "below").mkdir()
            (folder / "below" / "table.csv").write_text("a,b\n1,2\n3,4\n")
            (folder / "facts.json").write_text("{}")

    make()
    assert Cache(tmp_path).holds("scan", "ab12")
    path = tmp_path / "scan" / "ab" / "ab12" / name
    path.write_bytes(damaged(path.read_bytes()))
    cache = Cache(tmp_path)
    assert not cache.holds("scan", "ab12")
    assert not cache.holds("scan", "ab12")
    assert [record.message.split(" in the cache")[0] for record in caplog.records] == ["scan/ab12..."]
    assert list((tmp_path / "scan" / "ab").iterdir()) == []
    make()
    assert cache.holds("scan", "ab12")


def test_an_entry_that_lost_a_file_is_damaged_and_one_from_before_there_were_sums_is_not(tmp_path: Path) -> None:
    for at in ("lost", "older"):
        with Cache(tmp_path).entry("scan", at) as folder:
            (folder / "one").write_text("1")
            (folder / "two").write_text("2")
    (Cache(tmp_path).path("scan", "lost") / "two").unlink()
    (Cache(tmp_path).path("scan", "older") / SUMS).unlink()
    assert not Cache(tmp_path).holds("scan", "lost")
    assert Cache(tmp_path).holds("scan", "older")


@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_of_json_is_discarded_with_a_warning(
    tmp_path: Path, damaged: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    path = cache.path("scores", "ab12", ".json")
    write_json(path, [["auc", 0.5]])
    assert cache.json("scores", "ab12") == [["auc", 0.5]]
    path.write_bytes(damaged(path.read_bytes()))
    assert cache.json("scores", "ab12") is None
    assert cache.json("scores", "ab12") is None
    assert len(caplog.records) == 1
    assert not path.exists()


def test_what_is_damaged_and_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    path = cache.path("scores", "ab12", ".json")
    path.parent.mkdir(parents=True)
    path.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot remove .*ab12.json, which is damaged: Operation not permitted"):
        cache.json("scores", "ab12")


@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_salt_is_replaced_and_the_user_is_told_that_names_change(
    tmp_path: Path, damaged: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    before = Cache(tmp_path).pseudonym("patient")
    (tmp_path / "salt").write_bytes(damaged((tmp_path / "salt").read_bytes()))
    after = Cache(tmp_path).pseudonym("patient")
    assert after != before
    assert Cache(tmp_path).pseudonym("patient") == after
    assert [record.message.split(":")[0] for record in caplog.records] == ["the salt of pseudonyms is damaged"]


def test_what_others_put_into_an_entry_is_no_damage(tmp_path: Path) -> None:
    with Cache(tmp_path).entry("scan", AT) as folder:
        (folder / "table.csv").write_text("a,b")
    entry = Cache(tmp_path).path("scan", AT)
    (entry / ".DS_Store").touch()
    assert Cache(tmp_path).holds("scan", AT)
    (entry / "table.csv").unlink()
    assert not Cache(tmp_path).holds("scan", AT)


def test_an_entry_that_another_run_made_anew_meanwhile_is_not_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.entry("scan", AT) as folder:
        (folder / "table.csv").write_text("a,b")
    cache.discard(cache.path("scan", AT))
    assert Cache(tmp_path).holds("scan", AT)
    assert [path.name for path in cache.path("scan", AT).parent.iterdir()] == [AT]


def test_an_entry_that_the_disk_cannot_read_is_made_anew_and_one_that_may_not_be_read_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(tmp_path).entry("scan", AT) as folder:
        (folder / "table.csv").write_text("a,b")
    number = errno.EMFILE

    def fail(path: Path) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr("ctkit.storage.cache._checksum", fail)
    with pytest.raises(OSError, match="no"):
        Cache(tmp_path).holds("scan", AT)
    number = errno.EIO
    assert not Cache(tmp_path).holds("scan", AT)
