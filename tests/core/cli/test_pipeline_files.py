"""``ctkit validate``, ``init`` and ``schema``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_a_file_can_be_checked_without_running_it(folder: Path, command: Run) -> None:
    code, out, _ = command("validate", "p.toml")
    assert code == 0
    assert "3 arms" in out
    assert not (folder / "runs").exists()
