"""Which runs start their workers before all of ctkit is imported, and how many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctkit import compute
from ctkit.cli.early_workers import early_workers


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """How many processes were started early, by call."""
    counts: list[int] = []

    @contextmanager
    def started_early(count: int, imports: str) -> Iterator[None]:
        counts.append(count)
        yield

    monkeypatch.setattr(compute, "started_early", started_early)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.chdir(tmp_path)
    return counts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[run]\nname = "new"', [4]),
        ('[run]\nname = "new"\n[compute]\nworkers = 1', [1]),
        ('[run]\nname = "new"\n[compute]\nworkers = -1', [0]),
        ('[run]\nname = "new"\n[compute]\nworkers = 64', [4]),
        ('[run]\nname = "new"\n[compute]\nbackend = "dask"', []),
        ('[run]\nname = "old"', []),
        ('[run]\nname = "new"\nout = "runs/old"', []),
        ("run = 3\ncompute = 4", [4]),  # what is wrong with it is said later
        ("[run", [4]),
    ],
)
def test_a_new_run_starts_workers_early(text: str, expected: list[int], started: list[int], tmp_path: Path) -> None:
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "p.toml").write_text(text)
    with early_workers(None, tmp_path / "p.toml"):
        assert started == expected


def test_the_folder_of_the_command_line_counts(started: list[int], tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[run]\nname = "new"')
    for out in (tmp_path, tmp_path / "other"):
        with early_workers(out, tmp_path / "p.toml"):
            pass
    assert started == [4]
