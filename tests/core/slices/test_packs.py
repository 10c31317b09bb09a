"""Packs: many results in an entry, of which damage costs those that it hits."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ctkit.files import write_bytes
from ctkit.slices import packed
from ctkit.slices.packs import MOST, SECONDS, Packs
from ctkit.storage import ENTRY, Cache

SOME = {"aa11": b"first", "bb22": b"", "cc33": b"#ctkit 0000000000000001 00000000\n", "dd44": bytes(range(256))}


def written(folder: Path, results: dict[str, bytes]) -> Path:
    """Write results into one pack and return it."""
    own = Packs(Cache(folder), "evidence")
    before = {*folder.rglob("*.entry")}
    for name, content in results.items():
        own.add(name, content)
    own.write()
    (pack,) = {*folder.rglob("*.entry")} - before
    return pack


def whole(folder: Path) -> dict[str, bytes]:
    """The results of SOME that another process finds."""
    found = Packs(Cache(folder), "evidence")
    return {name: content for name in SOME if (content := found.read(name)) is not None}


def test_results_are_there_when_added_and_for_other_processes_when_written(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    own = packed(cache, "evidence")
    assert packed(cache, "evidence") is own
    own.add("aa11", b"first")
    assert (own.read("aa11"), own.read("bb22"), "aa11" in own, "bb22" in own) == (b"first", None, True, False)
    assert not [*tmp_path.rglob("*")]
    assert "aa11" not in Packs(cache, "evidence")
    own.write()
    own.write()
    assert len([*tmp_path.rglob("*.*")]) == 1
    assert (own.read("aa11"), Packs(cache, "evidence").read("aa11")) == (b"first", b"first")
    assert "aa11" not in Packs(cache, "reading")


def test_some_hundred_results_make_a_pack(tmp_path: Path) -> None:
    own = Packs(Cache(tmp_path), "reading")
    for number in range(3 * MOST - 1):
        own.add(f"{number:x}", str(number).encode())
    assert len([*tmp_path.rglob("*.entry")]) == 2
    own.write()
    found = Packs(Cache(tmp_path), "reading")
    assert [int(found.read(f"{number:x}") or b"-1") for number in range(3 * MOST - 1)] == [*range(3 * MOST - 1)]


def test_a_result_waits_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ctkit.slices.packs.time.monotonic", lambda: now[0])
    own = Packs(Cache(tmp_path), "reading")
    own.add("a", b"")
    now[0] = SECONDS - 1
    own.add("b", b"")
    assert not [*tmp_path.rglob("*.entry")]
    now[0] = SECONDS + 1
    own.add("c", b"")
    assert len([*tmp_path.rglob("*.entry")]) == 1
    own.add("d", b"")
    assert len([*tmp_path.rglob("*.entry")]) == 1
    now[0] = 3 * SECONDS
    own.add("e", b"")
    assert len([*tmp_path.rglob("*.entry")]) == 2, "what takes long does not wait for the next one"


def test_one_changed_byte_costs_one_result_at_most(tmp_path: Path) -> None:
    pack = written(tmp_path, SOME)
    data = pack.read_bytes()
    for place in range(len(data)):
        pack.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        found = whole(tmp_path)
        assert len(found) >= len(SOME) - 1, place
        assert found.items() <= SOME.items()
    pack.write_bytes(data)
    assert whole(tmp_path) == SOME


def test_a_pack_that_is_cut_short_has_what_comes_before(tmp_path: Path) -> None:
    pack = written(tmp_path, SOME)
    data = pack.read_bytes()
    counts = []
    for size in range(len(data)):
        pack.write_bytes(data[:size])
        found = whole(tmp_path)
        assert found.items() <= SOME.items()
        assert found.keys() == {*SOME} & Packs(Cache(tmp_path, looking=True), "evidence")._places.keys()
        counts.append(len(found))
    assert counts == sorted(counts)
    assert {*counts} == {*range(len(SOME) + 1)}


def test_damage_is_said_once_and_what_replaces_it_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pack = written(tmp_path, SOME)
    data = pack.read_bytes()
    pack.write_bytes(data.replace(b"first", b"worst").replace(SOME["dd44"], SOME["dd44"][::-1]))
    found = Packs(Cache(tmp_path), "evidence")
    with caplog.at_level(logging.WARNING):
        assert [found.read(name) for name in SOME] == [None, SOME["bb22"], SOME["cc33"], None]
        assert ("aa11" in found, found.read("aa11")) == (False, None)
    assert [record.getMessage().startswith(f"evidence/{pack.name[:12]}...") for record in caplog.records] == [True]
    found.add("aa11", b"again")
    found.add("dd44", SOME["dd44"])
    found.write()
    caplog.clear()
    assert whole(tmp_path) == {**SOME, "aa11": b"again"}
    assert not caplog.records
    written(tmp_path, {"bb22": b"newer"})
    assert whole(tmp_path) == {**SOME, "aa11": b"again", "bb22": b"newer"}


def test_an_entry_of_one_result_is_read_and_rubbish_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    write_bytes(cache.path("evidence", "aa11", ENTRY), b"alone", sealed=True)
    write_bytes(cache.path("evidence", "bb22", ENTRY), b"rubbish")
    assert whole(tmp_path) == {"aa11": b"alone"}
    assert [path.stem for path in tmp_path.rglob("*.entry")] == ["aa11"]


def test_who_only_looks_changes_nothing(tmp_path: Path) -> None:
    pack = written(tmp_path, SOME)
    pack.write_bytes(b"rubbish")
    assert "aa11" not in Packs(Cache(tmp_path, looking=True), "evidence")
    assert pack.read_bytes() == b"rubbish"


def test_a_pack_that_was_cleaned_meanwhile_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pack = written(tmp_path, SOME)
    found = Packs(Cache(tmp_path), "evidence")
    pack.unlink()
    assert [found.read(name) for name in SOME] == [None] * len(SOME)
    assert not caplog.records


def test_packs_that_are_read_or_written_are_in_use(tmp_path: Path) -> None:
    first, second = written(tmp_path, SOME), written(tmp_path, {"ee55": b"other"})
    cache, asked = Cache(tmp_path), list[Path]()
    cache.asked = asked.append
    found = Packs(cache, "evidence")
    assert asked == []
    found.read("bb22")
    assert asked == [first]
    found.add("ff66", b"new")
    found.write()
    assert second not in asked
    assert len(asked) == 2
    assert "nowhere" not in found
    assert len(asked) == 2
    assert "ee55" in found  # as where a start has nothing to do
    assert asked[2:] == [second]
