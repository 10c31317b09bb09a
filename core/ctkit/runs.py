"""A run's folder: its lock, where everything lies in it, and ``run.json``, which says how it came about."""

from __future__ import annotations

import filecmp
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import ctkit
from ctkit.errors import LockedError, RequestError, StorageError
from ctkit.files import read_json, write_json, writing
from ctkit.locks import PATIENCE, is_held
from ctkit.plan import Pipeline

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


@dataclass
class Provenance:
    """What ``run.json`` holds; written at the start, after each stage and at the end."""

    folder: RunFolder
    pipeline: Pipeline
    device: str
    state: str = "running"
    error: str | None = None
    going: list[dict[str, str]] = field(default_factory=list)  #: stage and item of work that goes on
    jobs: int = 1  #: trainings or evaluations at once
    fingerprint: str | None = None
    notes: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    trainings: dict[str, dict[str, Any]] = field(default_factory=dict)  #: what each cost, also in an earlier run
    started: str = field(default_factory=lambda: _now())
    report_changes: bool = field(init=False)  #: the page of the folder's earlier start is to show something else
    _earlier: dict[str, Any] = field(init=False)
    _seconds: dict[tuple[str, str], float] = field(init=False)  #: of stages and items in the folder's earlier starts

    def __post_init__(self) -> None:
        self._earlier = read_provenance(self.folder.path)
        times = [*self._earlier.get("unreached", []), *self._earlier.get("stages", [])]
        self._seconds = {(one["stage"], one["item"]): one["seconds"] for one in times}
        known = self._earlier.get("pipeline", {}).get("report")
        self.report_changes = known is not None and known != self.pipeline.document["report"]

    def began(self, stage: str, item: str) -> None:
        """Note what is worked on now."""
        self.going.append({"stage": stage, "item": item})

    def ended(self, stage: str, item: str) -> None:
        """Note that a stage is no longer worked on."""
        self.going = [one for one in self.going if one != {"stage": stage, "item": item}]

    def made(self, stage: str, item: str, seconds: float) -> None:
        """Note that a stage is done."""
        self.ended(stage, item)
        self.stages.append({"stage": stage, "item": item, "seconds": round(seconds, 3), "cached": False})

    def found(self, stage: str, item: str) -> None:
        """Note that a stage's result was there; the time is what an earlier start here took, 0 if none did."""
        seconds = self._seconds.get((stage, item), 0.0)
        self.stages.append({"stage": stage, "item": item, "seconds": seconds, "cached": True})

    @property
    def worked(self) -> bool:
        """Whether anything was not cached."""
        return not all(stage["cached"] for stage in self.stages)

    @property
    def data_changed(self) -> bool:
        """Whether this folder's last start was on other data."""
        return self._earlier.get("fingerprint") not in (None, self.fingerprint)

    @property
    def as_before(self) -> bool:
        """Whether this folder's last start did all that this one does, for the same pipeline and data.

        Its report is then still true.
        """
        now = {"pipeline": json.loads(json.dumps(self.pipeline.document)), "fingerprint": self.fingerprint}
        same = all(self._earlier.get(key) == value for key, value in now.items())
        before = {(one["stage"], one["item"]) for one in self._earlier.get("stages", [])}
        same = same and self._reached <= before
        return same and not self.worked and self._earlier.get("state") == self.state

    def _unreached(self) -> list[dict[str, Any]]:
        """What earlier starts took for what this one did not come to, so that a later one still knows."""
        if self.state == "done":  # with the whole pipeline: what else there was is of an earlier one
            return []
        times = [(key, seconds) for key, seconds in self._seconds.items() if key not in self._reached]
        return [{"stage": key[0], "item": key[1], "seconds": seconds} for key, seconds in times]

    @property
    def _reached(self) -> set[tuple[str, str]]:
        return {(one["stage"], one["item"]) for one in self.stages}

    def write(self, *, finished: bool = False) -> None:
        """Write ``run.json``."""
        write_json(
            self.folder.path / "run.json",
            {
                "ctkit": ctkit.__version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "name": self.pipeline.run.name,
                "command": ["ctkit", *sys.argv[1:]],
                "started": self.started,
                "finished": _now() if finished else None,
                "state": self.state,
                "error": self.error,
                "at": self.going[-1] if self.going else None,
                "failures": self.failures,
                "pipeline": self.pipeline.document,
                "plugins": _plugins(self.pipeline),
                "seeds": list(self.pipeline.seeds),
                "device": self.device,
                "jobs": self.jobs,
                "fingerprint": self.fingerprint,
                "stages": self.stages,
                "unreached": self._unreached(),
                "trainings": self.trainings,
                "notes": self.notes,
            },
        )


def read_provenance(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` of a run folder holds, {} where there is none."""
    return read_json(run / "run.json")


def _plugins(pipeline: Pipeline) -> list[dict[str, Any]]:
    facts = {
        (chosen.entry.kind, chosen.entry.name): {
            "kind": chosen.entry.kind,
            "name": chosen.entry.name,
            "distribution": chosen.entry.distribution,
            "version": chosen.entry.version,
            "results_version": chosen.identity["version"],
        }
        for chosen in pipeline.plugins
    }
    return [facts[key] for key in sorted(facts)]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._start
