"""Folders for unfinished work."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit.errors import StorageError
from ctkit.session.workspace import workspace
from ctkit.storage import Cache


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot create"),
        workspace(Cache(tmp_path / "file"), "pretrain", "ab"),
    ):
        pass


def test_a_workspace_is_held_by_one_at_a_time_and_outlives_what_goes_wrong(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt), workspace(cache, "pretrain", "ab") as folder:
        assert folder is not None
        (folder / "step-3.ckpt").write_text("")
        raise KeyboardInterrupt
    with workspace(cache, "pretrain", "ab") as folder:
        assert folder is not None
        assert (folder / "step-3.ckpt").exists()
        with workspace(Cache(tmp_path), "pretrain", "ab") as second, workspace(cache, "pretrain", "cd") as other:
            assert second is None
            assert other is not None
        assert folder.is_dir()
    assert not folder.exists()
