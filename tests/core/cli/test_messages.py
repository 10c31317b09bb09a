"""What every command on a pipeline says of plugins that are broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.plugins.registry import Entry

Run = Callable[..., tuple[int, str, str]]


def test_a_broken_plugin_is_told_of_before_it_is_missed(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Entry("unknown", "diary", "", "ct-diary", "1.0", status="broken", error="ImportError: no pen")
    monkeypatch.setattr(plugins.load(), "entries", [*plugins.load().entries, broken])
    for words in (["validate", "p.toml"], ["run", "p.toml", "--dry-run"]):
        code, _, err = command(*words)
        assert code == 0
        assert "plugin 'diary' of ct-diary is broken and not used: ImportError: no pen" in err
