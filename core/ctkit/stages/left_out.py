"""What a scan leaves out, and why: on disk and in the order of paths, as it may be more than the slices are."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from ctkit.contracts import Skipped
from ctkit.storage import RunFolder
from ctkit.storage.records import SkippedRow, read_rows, write_rows

HELD = 50_000  #: rows that wait in memory to be sorted


class LeftOut:
    """What the scan in a folder left out; every loop over it reads it again."""

    def __init__(self, folder: Path) -> None:
        self._table = RunFolder(folder).skipped

    def __iter__(self) -> Iterator[Skipped]:
        return (Skipped(*row) for row in read_rows(self._table, SkippedRow))

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self)


class LeftOutWriter:
    """Sorts what is left out in pieces, and merges them into the table of a scan's ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[tuple[str, str]] = []
        self._pieces: list[Path] = []

    def add(self, skipped: Skipped) -> None:
        """Note one file."""
        self._rows.append((skipped.source, skipped.reason))
        if len(self._rows) == HELD:
            self._put_down()

    def write(self) -> None:
        """Write the table."""
        self._put_down()
        with ExitStack() as opened:
            files = [opened.enter_context(piece.open(encoding="ascii")) for piece in self._pieces]
            rows = heapq.merge(*(map(json.loads, file) for file in files))
            write_rows(RunFolder(self._folder).skipped, SkippedRow, map(SkippedRow._make, rows))
        for piece in self._pieces:
            piece.unlink()

    def _put_down(self) -> None:
        piece = self._folder / f".skipped-{len(self._pieces)}"
        with piece.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(row) + "\n" for row in sorted(self._rows))
        self._pieces.append(piece)
        self._rows.clear()
