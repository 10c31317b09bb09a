from __future__ import annotations

import os
from pathlib import Path

from ctkit.contracts import SourceFile
from ctkit_datasets.source_files import walk


def test_files_come_sorted_folder_by_folder_with_size_and_time(tmp_path: Path) -> None:
    for name, text in (("b/2", "xx"), ("b/10", "x"), ("a", "xxx"), ("c/d/e", "")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(1, 42))
    assert list(walk(tmp_path)) == [
        SourceFile("a", 3, 42),
        SourceFile("b/10", 1, 42),
        SourceFile("b/2", 2, 42),
        SourceFile("c/d/e", 0, 42),
    ]


def test_linked_folders_are_walked_but_never_in_a_circle(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data, other):
        folder.mkdir()
    (other / "file").touch()
    (data / "link").symlink_to(other, target_is_directory=True)
    (other / "back").symlink_to(data, target_is_directory=True)
    assert [file.path for file in walk(data)] == ["link/file"]


def test_a_broken_link_is_listed_and_a_pipe_is_not(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert list(walk(tmp_path)) == [SourceFile("broken", 0, 0)]


def test_a_folder_that_vanished_is_listed(tmp_path: Path) -> None:
    assert list(walk(tmp_path / "gone")) == [SourceFile(".", 0, 0)]
