"""What ``ctkit runs`` says of run folders, whatever became of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctkit.cli import main
from ctkit.cli.listing import occupied, runs_in
from ctkit.errors import RequestError
from ctkit.storage.run_folder import RunFolder

Leave = Callable[..., Path]


@pytest.fixture
def leave(tmp_path: Path) -> Leave:
    """Leave a run folder behind that was started so many days ago."""

    def _leave(name: str, state: str, days: float = 0, **facts: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        started = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
        (folder / "run.json").write_text(json.dumps({"state": state, "started": started, **facts}))
        return folder

    return _leave


AT = {"stage": "pretrain", "item": "hash6/simclr/seed-42"}


@pytest.mark.parametrize(
    ("state", "at", "text"),
    [
        ("done", None, "done"),
        ("stopped at select", None, "stopped at select"),
        ("failed in part", AT, "failed in part"),
        ("failed", {"stage": "scan", "item": ""}, "failed at scan"),
        ("interrupted", AT, "interrupted at pretrain hash6/simclr/seed-42"),
        ("running", AT, "killed at pretrain hash6/simclr/seed-42"),
    ],
)
def test_a_run_is_listed_with_how_it_stands(leave: Leave, state: str, at: object, text: str) -> None:
    folder = leave("one", state, at=at)
    assert [run.state for run in runs_in(folder.parent)] == [text]


def test_a_run_whose_folder_is_held_is_running(leave: Leave) -> None:
    folder = leave("one", "running", at=AT)
    with RunFolder(folder).locked():
        assert runs_in(folder)[0].state == "running at pretrain hash6/simclr/seed-42"


def test_the_youngest_comes_first_and_what_is_no_run_is_left_out(leave: Leave, tmp_path: Path) -> None:
    leave("old", "done", days=9)
    leave("young", "done", days=2)
    (tmp_path / "runs" / ".cache").mkdir()
    found = runs_in(tmp_path / "runs")
    assert [run.path.name for run in found] == ["young", "old"]
    assert found[0].age == pytest.approx(2 * 86_400, abs=60)


@pytest.mark.parametrize("text", ['{"name": "x"}', '{"started": 3}', '{"started": "now"}', "[]", "{"])
def test_a_run_json_of_somebody_else_is_left_out(leave: Leave, text: str) -> None:
    run = leave("one", "done")
    foreign = run.parent / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text(text)
    assert [found.path for found in runs_in(run.parent)] == [run]


def test_a_run_is_as_large_as_its_files(leave: Leave) -> None:
    folder = leave("one", "done")
    (folder / "arms").mkdir()
    (folder / "arms" / "x").write_bytes(b"x" * 5000)
    assert runs_in(folder)[0].size == 5000 + (folder / "run.json").stat().st_size == occupied(folder)


def test_a_folder_that_is_not_there_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no folder"):
        runs_in(tmp_path / "none")


def test_the_command_prints_a_table_and_the_cache(
    leave: Leave, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    runs = leave("one", "done", days=3).parent
    with pytest.raises(SystemExit):
        main(["runs", str(runs)])
    header, row, cache = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "state", "age", "size"]
    assert row.startswith("one  done   3 days")
    assert cache == f"cache: 0 B in {runs / '.cache'}; to free it: ctkit clean"
    with pytest.raises(SystemExit):
        main(["runs", str(runs), "--json"])
    assert json.loads(capsys.readouterr().out)["age_seconds"] == pytest.approx(3 * 86_400, abs=60)
