"""Addresses and entries."""

from __future__ import annotations

import errno
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctkit.contracts import Score
from ctkit.errors import StorageError
from ctkit.files import read_sealed, write_bytes
from ctkit.storage.cache import ENTRY, LOCATION, SUMS, Cache, address

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


def test_what_a_block_cannot_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Cache(tmp_path).entry("scan", "ab"):
        (tmp_path / "elsewhere" / "missing").read_text()


def test_a_name_that_is_no_utf_8_has_a_pseudonym(tmp_path: Path) -> None:
    assert len(Cache(tmp_path).pseudonym("M\udcfcller")) == 16


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


@pytest.mark.parametrize("sums", [None, "{}", "[]", "7", '{"one": "1"}'])
def test_an_entry_that_lost_a_file_or_its_sums_is_damaged(tmp_path: Path, sums: str | None) -> None:
    with Cache(tmp_path).entry("scan", AT) as folder:
        (folder / "one").write_text("1")
    entry = Cache(tmp_path).path("scan", AT)
    if sums is None:
        (entry / "one").unlink()
    else:
        (entry / SUMS).write_text(sums)
    assert not Cache(tmp_path).holds("scan", AT)
    assert not entry.exists()


SCORES = [Score("auc", 0.644, 0.5, math.nan), Score("f1", 1.0, 0.25, 1.0)]


def same(found: list[Score] | None) -> bool:
    return repr(found) == repr(SCORES)  # NaN is not equal to itself


def test_an_entry_that_is_one_file_is_read_as_what_was_written_and_none_is_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    assert cache.read("scores", AT, list[Score]) is None
    cache.write("scores", AT, SCORES)
    assert same(cache.read("scores", AT, list[Score]))
    cache.write("headers", AT, [{"file": "M\udcfcller"}, "why not"])
    assert cache.read("headers", AT, list[dict[str, Any] | str]) == [{"file": "M\udcfcller"}, "why not"]
    assert not caplog.records


def test_every_byte_of_an_entry_that_is_one_file_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Cache(tmp_path).write("scores", AT, SCORES)
    path = Cache(tmp_path).path("scores", AT, ENTRY)
    data = path.read_bytes()
    damages = [bytes([*data[:n], data[n] ^ 1, *data[n + 1 :]]) for n in range(len(data))]  # a digit becomes another
    damages += [data[:n] for n in range(len(data))] + [bytes(len(data)), data + b"\n", data + data]
    for damaged in damages:
        path.write_bytes(damaged)
        assert Cache(tmp_path).read("scores", AT, list[Score]) is None
        assert not path.exists()
    assert len(caplog.records) == len(damages)


def test_an_entry_under_the_address_of_another_is_damaged(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write("scores", AT, SCORES)
    shutil.copy(cache.path("scores", AT, ENTRY), cache.path("scores", f"{AT[:-1]}x", ENTRY))
    assert cache.read("scores", f"{AT[:-1]}x", list[Score]) is None
    assert same(cache.read("scores", AT, list[Score]))


@pytest.mark.parametrize("value", [None, 7, {}, [["auc", 0.5, 0.4, 0.6]], [{"metric": "auc"}], [{"metric": 1}]])
def test_an_entry_of_another_shape_is_damaged(tmp_path: Path, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    cache.write("scores", AT, value)
    assert cache.read("scores", AT, list[Score]) is None
    assert cache.read("scores", AT, list[Score]) is None
    assert len(caplog.records) == 1


def test_what_is_damaged_and_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    path = cache.path("scores", "ab12", ENTRY)
    path.parent.mkdir(parents=True)
    path.touch()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot remove .*ab12.entry, which is damaged: Operation not permitted"):
        cache.read("scores", "ab12", list[Score])


def test_who_only_looks_leaves_what_is_damaged_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Cache(tmp_path).entry("scan", AT) as folder:
        (folder / "table.csv").write_text("a,b")
    Cache(tmp_path).write("scores", AT, SCORES)
    table, scores = tmp_path / "scan" / AT[:2] / AT / "table.csv", Cache(tmp_path).path("scores", AT, ENTRY)
    table.write_text("a,c")
    scores.write_bytes(b"")
    cache = pickle.loads(pickle.dumps(Cache(tmp_path, looking=True)))  # as its workers have it
    for _ in range(2):
        assert not cache.holds("scan", AT)
        assert cache.read("scores", AT, list[Score]) is None
    assert [record.message.rpartition("; ")[2] for record in caplog.records] == ["the next run rebuilds it"] * 2
    assert table.exists()
    assert scores.exists()


def test_sealed_files_laid_one_after_the_other_can_be_told_apart(tmp_path: Path) -> None:
    """What packing many small volumes into one file will need: each length stands in its own seal."""
    for name, content in (("one", b"1" * 5), ("two", b"2" * 70)):
        write_bytes(tmp_path / name, content, sealed=True)
    packed = (tmp_path / "one").read_bytes() + (tmp_path / "two").read_bytes()
    size = int(packed.rsplit(b"#ctkit ", 1)[1].split()[0], 16)
    last = packed[-size - len(packed.rsplit(b"\n#ctkit ", 1)[1]) - len("\n#ctkit ") :]
    (tmp_path / "two").write_bytes(last)
    assert read_sealed(tmp_path / "two") == b"2" * 70


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
