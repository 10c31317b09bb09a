"""Freeing the cache: what goes, what stays, and that nothing goes unasked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctkit.cli import main
from ctkit.cli.cleaning import LEFTOVERS, Wish, free, parse_age, parse_size, plan
from ctkit.console import size
from ctkit.errors import LockedError, RequestError, StorageError
from ctkit.files import link
from ctkit.session.usage import used_by
from ctkit.session.workspace import workspace
from ctkit.storage.cache import SUMS, Cache, address
from ctkit.storage.run_folder import RunFolder

Make = Callable[..., Path]
DAY = 86_400
ALL = Wish(older_than=0)
PIPELINE = """\
[run]
name = "a"
[dataset]
use = "phantom"
patients = 1
slices = 8
matrix = 32
[[reduce]]
use = "hash"
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "runs" / ".cache")


@pytest.fixture
def make(cache: Cache) -> Make:
    """Make an entry that was used last so many days ago."""

    def _make(name: str, size: int = 1000, days: float = 1, cache: Cache = cache) -> Path:
        at = address("test", name=name)
        with cache.entry("store", at) as folder:
            (folder / "data").write_bytes(b"x" * size)
        entry = cache.path("store", at)
        (entry / SUMS).unlink()  # the tests count bytes of data
        os.utime(entry, (time.time() - days * DAY,) * 2)
        return entry

    return _make


def paths(cache: Cache, wish: Wish) -> set[Path]:
    return {entry.path for entry in plan(cache.folder, wish).entries}


def test_what_was_not_used_for_long_goes(cache: Cache, make: Make) -> None:
    old, young = make("old", days=40), make("young", days=20)
    planned = plan(cache.folder, Wish(older_than=30 * DAY))
    assert [entry.path for entry in planned.entries] == [old]
    assert planned.size == 1000
    free(planned)
    assert not old.exists()
    assert young.exists()
    assert not plan(cache.folder, Wish(older_than=30 * DAY)).entries


def test_what_is_known_of_the_code_of_plugins_stays(cache: Cache) -> None:
    cache.write("code", address("code", plugin="x"), {"code": "abc", "again": 1})
    assert not paths(cache, ALL)
    assert not paths(cache, Wish(keep_below=0))


def test_a_run_that_asks_for_an_entry_makes_it_young_again(cache: Cache, make: Make, tmp_path: Path) -> None:
    asked, other = make("asked", days=40), make("other", days=40)
    with used_by(cache, tmp_path / "runs" / "a"):
        cache.path("store", asked.name)
    assert paths(cache, Wish(older_than=30 * DAY)) == {other}


def test_of_a_cache_that_is_too_large_what_was_used_longest_ago_goes(cache: Cache, make: Make) -> None:
    entries = [make(str(days), days=days) for days in (5, 4, 3, 2, 1)]
    assert paths(cache, Wish(keep_below=2500)) == set(entries[:3])
    assert paths(cache, Wish(keep_below=5000)) == set()


def test_a_result_that_a_run_folder_shows_goes_with_its_run_only(cache: Cache, make: Make, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    shown = make("shown", days=40)
    link(shown / "data", run / "data")
    with used_by(cache, run):
        cache.path("store", shown.name)
    assert paths(cache, ALL) == set()
    assert paths(cache, Wish(keep_below=0)) == set()
    assert plan(cache.folder, Wish(keep_below=0)).shared == 1000
    assert paths(cache, Wish(run=run)) == {shown}
    assert plan(cache.folder, Wish(run=run)).shared == 0
    (run / "data").unlink()
    assert paths(cache, ALL) == {shown}


def test_of_a_run_only_what_no_other_run_uses_goes(cache: Cache, make: Make, tmp_path: Path) -> None:
    own, shared, foreign = make("own"), make("shared"), make("foreign")
    for run, entries in (("a", (own, shared)), ("b", (shared, foreign))):
        with used_by(cache, tmp_path / "runs" / run):
            for entry in entries:
                cache.path("store", entry.name)
    assert paths(cache, Wish(run=tmp_path / "runs" / "a")) == {own}


def test_an_earlier_start_of_a_run_counts_as_well(cache: Cache, make: Make, tmp_path: Path) -> None:
    run, entries = tmp_path / "runs" / "a", (make("first"), make("second"))
    for entry in entries:
        with used_by(cache, run):
            cache.path("store", entry.name)
    assert paths(cache, Wish(run=run)) == set(entries)


def test_what_a_live_run_asked_for_or_may_have_made_stays(cache: Cache, make: Make, tmp_path: Path) -> None:
    used, idle = make("used"), make("idle")
    run = tmp_path / "runs" / "a"
    with RunFolder(run).locked(), used_by(cache, run):
        cache.path("store", used.name)
        make("made", days=-0.001)
        planned = plan(cache.folder, ALL)
        assert [entry.path for entry in planned.entries] == [idle]
        assert planned.spared == 2
        with pytest.raises(LockedError, match="a process is running"):
            plan(cache.folder, Wish(run=run))


def test_a_run_that_nobody_knows_names_the_nearest(cache: Cache, tmp_path: Path) -> None:
    with used_by(cache, tmp_path / "runs" / "hash6"):
        pass
    with pytest.raises(RequestError, match="did you mean 'hash6'"):
        plan(cache.folder, Wish(run=tmp_path / "runs" / "hahs6"))


def test_what_killed_writers_left_goes_without_being_named(cache: Cache, make: Make) -> None:
    entry = make("entry")
    parts = [entry / ".x.csv.123-abcd.part", entry.parent / ".abcdef.123-abcd.part"]
    parts[0].write_text("half")
    parts[1].mkdir()
    (parts[1] / "data").write_text("half")
    planned = plan(cache.folder, Wish())
    assert planned.by_kind == [(LEFTOVERS, 2, 8)]
    free(planned)
    assert not any(part.exists() for part in parts)
    assert (entry / "data").exists()


def test_a_leftover_in_an_entry_that_goes_is_counted_once(cache: Cache, make: Make) -> None:
    (make("entry", days=2) / ".x.part").write_text("half")
    assert plan(cache.folder, Wish(keep_below=0)).size == 1004


def test_the_salt_and_the_records_of_users_stay(cache: Cache, make: Make, tmp_path: Path) -> None:
    make("entry")
    name = cache.pseudonym("patient")
    with used_by(cache, tmp_path / "runs" / "a"):
        pass
    free(plan(cache.folder, ALL))
    assert Cache(cache.folder).pseudonym("patient") == name
    assert plan(cache.folder, Wish(run=tmp_path / "runs" / "a")).entries == ()


@pytest.mark.parametrize(
    "name",
    ["thumbnails/ab/" + 64 * "a", "pip/ab/.wheel.part", "store/.x.part", "store/ab/abba", "pictures/ab/abba.jpg"],
)
def test_what_is_not_of_ctkit_stays(cache: Cache, make: Make, name: str) -> None:
    entry, foreign = make("entry"), cache.folder / name
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("not ours")
    os.utime(foreign, (0, 0))
    assert paths(cache, ALL) == {entry}


def test_the_lock_of_a_workspace_stays(cache: Cache) -> None:
    with workspace(cache, "pretrain", address("test")) as folder:
        assert folder is not None
        for path in (folder, folder.with_suffix(".lock")):
            os.utime(path, (0, 0))
        assert paths(cache, ALL) == {folder}


def test_what_a_run_used_after_the_plan_stays(cache: Cache, make: Make, tmp_path: Path) -> None:
    used, idle = make("used"), make("idle")
    planned = plan(cache.folder, ALL)
    with used_by(cache, tmp_path / "runs" / "a"):
        cache.path("store", used.name)
    assert free(planned) == 1000
    assert used.exists()
    assert not idle.exists()


def test_what_a_run_that_started_after_the_plan_uses_stays(
    cache: Cache, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = make("used")
    planned = plan(cache.folder, ALL)
    monkeypatch.setattr("os.utime", refuse)  # as where the entry is somebody else's
    with used_by(cache, tmp_path / "runs" / "a"):
        cache.path("store", used.name)
        assert free(planned) == 0
    assert free(planned) == 1000


def refuse(*_: object) -> Path:
    raise PermissionError(13, "Permission denied", "entry")


def test_what_cannot_be_removed_is_named_after_the_rest_is_gone(
    cache: Cache, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [make(str(days), days=days) for days in (3, 2, 1)]
    planned, rename = plan(cache.folder, ALL), Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: refuse() if path == entries[1] else rename(path, to))
    with pytest.raises(StorageError, match="cannot remove entry: Permission denied; of 3 entries 1 .* 2.0 kB freed"):
        free(planned)
    assert [entry.exists() for entry in entries] == [False, True, False]


def test_a_live_run_is_known_by_the_cache_alone(cache: Cache, make: Make, tmp_path: Path) -> None:
    run, used = tmp_path / "a disk of another machine" / "a", make("used")
    with used_by(cache, run):
        cache.path("store", used.name)
        os.utime(used, (0, 0))
        assert paths(cache, ALL) == set()
        with pytest.raises(LockedError):
            plan(cache.folder, Wish(run=run))
    assert paths(cache, Wish(run=run)) == {used}


def test_runs_of_one_name_in_two_folders_are_two(cache: Cache, make: Make, tmp_path: Path) -> None:
    entries = {folder: make(folder) for folder in ("p1", "p2")}
    for folder, entry in entries.items():
        with used_by(cache, tmp_path / folder / "first"):
            cache.path("store", entry.name)
    for folder, entry in entries.items():
        assert paths(cache, Wish(run=tmp_path / folder / "first")) == {entry}


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def clean(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.delenv("CTKIT_CACHE", raising=False)

    def _clean(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["clean", str(cache.folder.parent), *words])
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return _clean


def test_it_says_what_would_go_and_asks(cache: Cache, make: Make, clean, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = make("entry")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda question: question.startswith("Free 1.0 kB"))
    code, out, _ = clean("--older-than", "1h", "--dry-run")
    assert code == 0
    assert out.splitlines()[1].split() == ["store", "1", "1.0", "kB"]
    assert entry.exists()
    code, out, _ = clean("--older-than", "1h")
    assert out.splitlines()[-1] == "1.0 kB freed"
    assert not entry.exists()


@pytest.mark.parametrize(("noted", "asked"), [("a", "../runs/a"), ("../runs/a", "a")])
def test_a_run_is_one_however_its_folder_is_written(cache: Cache, make: Make, clean, noted: str, asked: str) -> None:
    entry = make("entry")
    with used_by(cache, cache.folder.parent / noted):
        cache.path("store", entry.name)
    code, out, _ = clean("--run", asked, "--yes")
    assert code == 0
    assert out.splitlines()[-1] == "1.0 kB freed"
    assert not entry.exists()


def test_it_says_how_much_does_not_count_as_run_folders_have_it_too(
    cache: Cache, make: Make, clean, tmp_path: Path
) -> None:
    make("own", size=500)
    link(make("shown", size=2000) / "data", tmp_path / "runs" / "a" / "data")
    _, out, _ = clean("--keep-below", "1kB", "--yes")
    assert out.splitlines()[0].startswith("2.0 kB are kept and do not count: run folders have the same files")
    assert out.splitlines()[1].startswith("nothing to free")


def test_it_frees_nothing_where_it_cannot_ask(make: Make, clean, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = make("entry")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, _, err = clean("--older-than", "1h")
    assert code == 2
    assert "add --yes" in err
    assert entry.exists()
    assert clean("--older-than", "1h", "--yes")[0] == 0
    assert not entry.exists()


def test_without_a_wish_there_is_nothing_to_free(make: Make, clean) -> None:
    make("entry")
    code, out, _ = clean()
    assert code == 0
    assert "nothing to free" in out
    assert "--help" in out


def test_a_run_whose_cache_was_freed_makes_it_anew(tmp_path: Path, clean, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(PIPELINE)
    run = ["run", "p.toml", "--until", "select", "--quiet"]
    with pytest.raises(SystemExit):
        main(run)
    chosen = next((tmp_path / "runs" / "a").rglob("selection.csv"))
    before = chosen.read_bytes()
    assert clean("--run", "a", "--yes")[0] == 0
    assert not list((tmp_path / "runs" / ".cache" / "evidence").rglob("*.entry"))
    chosen.unlink()
    with pytest.raises(SystemExit) as left:
        main(run)
    assert left.value.code == 0
    assert chosen.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "count"), [("50GB", 50 * 10**9), ("1.5 MB", 1_500_000), ("300", 300), ("2kB", 2000), ("2K", 2000)]
)
def test_a_size_is_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("1.5m", 90), ("2w", 1_209_600)])
def test_an_age_is_read(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "3 potatoes", "1e3MB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="such as 50GB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "30", "d", "30 years"])
def test_what_is_no_age_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RequestError, match="such as 30d"):
        parse_age(text)


@given(st.integers(0, 10**15))
def test_a_size_reads_back_as_nearly_what_it_was(count: int) -> None:
    assert parse_size(size(count)) == pytest.approx(count, rel=0.06)
