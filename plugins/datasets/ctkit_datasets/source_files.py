"""Lists the files of a folder tree in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from ctkit.contracts import SourceFile


def walk(root: Path) -> Iterator[SourceFile]:
    """Yield every file below ``root``, each folder sorted by name.

    Links are followed, but never back into a folder that is being walked. What cannot be looked at (a broken link, a
    folder without permission, a file that vanishes meanwhile) is yielded with size 0, so that reading it gives the
    reason; sockets, pipes and devices are not files.
    """
    yield from _walk(str(root), "", (root.resolve(),))


def _walk(folder: str, prefix: str, above: tuple[Path, ...]) -> Iterator[SourceFile]:
    """Yield the files below one folder; ``above`` holds its real path and those of the folders that led to it."""
    try:
        with os.scandir(folder) as listing:
            names = sorted(entry.name for entry in listing)  # entries would take seven times the memory
    except OSError:
        yield SourceFile(prefix.rstrip("/") or ".", 0, 0)
        return
    for name in names:
        path, place = prefix + name, f"{folder}/{name}"
        try:
            status = os.stat(place)  # noqa: PTH116  # a Path for each of a million files takes its time
        except OSError:
            yield SourceFile(path, 0, 0)
            continue
        if S_ISREG(status.st_mode):
            yield SourceFile(path, status.st_size, status.st_mtime_ns)
        elif S_ISDIR(status.st_mode):
            real = Path(place).resolve() if Path(place).is_symlink() else above[-1] / name
            if real not in above:
                yield from _walk(place, path + "/", (*above, real))
