"""A run's folder: its lock, where everything lies in it, and ``run.json``, which says how it came about."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ctkit.errors import LockedError, RequestError, StorageError
from ctkit.files import read_json, writing
from ctkit.storage.locks import PATIENCE, is_held

#: What may lie in a run folder that has no ``run.json`` yet.
_BEFORE_PROVENANCE = (".lock", ".journal", "run.log", "run.jsonl", ".run.json.*.part", ".DS_Store")
#: What a run writes below ``arms``, and removes when its pipeline no longer makes it.
_WRITTEN = (
    *("arm.json", "selection.csv", "pictures.npz", "curve.csv", "curve.svg", "explain.html"),
    *(
        "backbone.safetensors",
        "history.csv",
        "pretrain.json",
        "repeat-*-labels-*.csv",
        "repeat-*-labels-*.json",
        ".*.part",
    ),
)


@dataclass(frozen=True)
class RunFolder:
    """The layout of ``runs/<name>/``."""

    path: Path

    @property
    def log(self) -> Path:
        """The log of every start of this run."""
        return self.path / "run.log"

    def arm(self, arm: str) -> Path:
        """Folder of an arm."""
        return self.path / "arms" / arm

    def selection(self, arm: str, seed: int | None) -> Path:
        """The selection of an arm; of one seed where it draws."""
        folder = self.arm(arm) if seed is None else self.arm(arm) / f"draw-{seed}"
        return folder / "selection.csv"

    def pretrain(self, arm: str, pretrain: str, seed: int) -> Path:
        """Folder of one pre-training."""
        return self.arm(arm) / pretrain / f"seed-{seed}"

    def baseline(self, baseline: str, seed: int) -> Path:
        """Folder of one backbone of a baseline."""
        return self.path / "baselines" / baseline / f"seed-{seed}"

    def predictions(self, pretrained: Path, task: str, protocol: str, repeat: int, labels: float) -> Path:
        """Predictions of one evaluation of the pre-training in folder ``pretrained``."""
        return pretrained / task / protocol / f"repeat-{repeat}-labels-{labels:g}.csv"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other processes.

        Raises ``LockedError`` where another holds it, ``StorageError`` where the folder cannot be made, and
        ``RequestError`` where it holds something else, for a run removes what its pipeline no longer makes.
        """
        lock = FileLock(self.path / ".lock", timeout=PATIENCE)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_strangers()
            lock.acquire()
        except Timeout as error:
            raise LockedError(
                f"another process is running in {self.path}; wait for it, or give this run another name"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot write {error.filename or self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def _refuse_strangers(self) -> None:
        if (self.path / "run.json").exists():
            return
        strangers = (path for path in self.path.iterdir() if not any(map(path.match, _BEFORE_PROVENANCE)))
        strange = next((path.name for path in strangers), None)
        if strange is not None:
            raise RequestError(f"{self.path} is no run folder but holds {strange!r}; give this run a folder of its own")

    @property
    def is_live(self) -> bool:
        """Whether a process holds the folder; where that cannot be told, it counts as held."""
        return is_held(self.path / ".lock")

    def keep_only(self, files: set[Path]) -> None:
        """Remove what an earlier version of the pipeline left; all of it can be made again from the cache.

        Files that ctkit does not write stay.
        """
        for result in (self.path / name for name in ("results.csv", "comparisons.csv", "mistakes.npz")):
            if result not in files:
                result.unlink(missing_ok=True)
        for name in ("arms", "baselines"):
            forget(self.path / name, files)


def forget(folder: Path, but: Collection[Path] = ()) -> None:
    """Remove what a run wrote below a folder of its run folder, ``but`` for some files, and folders that are empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # it is not empty
                path.rmdir()
        elif path not in but and any(path.match(name) for name in _WRITTEN):
            path.unlink()


def place(source: Path, target: Path) -> None:
    """Put a file of the cache into a run folder: a copy, so that no change to it reaches the cache."""
    if not _is_same(source, target):
        with writing(target) as temporary:
            shutil.copyfile(source, temporary)


def link(source: Path, target: Path) -> None:
    """Put a large file elsewhere: a hard link where the disk allows, else a copy."""
    if _is_same(source, target):
        return
    with writing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _is_same(source: Path, target: Path) -> bool:
    return target.exists() and (target.samefile(source) or filecmp.cmp(source, target, shallow=False))


def read_provenance(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` of a run folder holds, {} where there is none."""
    return read_json(run / "run.json")
