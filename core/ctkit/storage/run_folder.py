"""A run's folder: its lock, every file in it under its name, and which of these a run writes and removes."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from filelock import FileLock, Timeout

from ctkit.errors import LockedError, RequestError, StorageError
from ctkit.files import is_same, read_json, writing
from ctkit.storage.locks import PATIENCE, is_held

LARGE = 1_000_000  #: slices, above which a selection is compressed
_SELECTIONS = ("selection.csv", "selection.csv.gz")
_SEED = re.compile(r"seed-(\d+)")
_EVALUATION = re.compile(r"repeat-(\d+)-labels-(\d+(?:\.\d+)?(?:e-\d+)?)")


@dataclass(frozen=True)
class File:
    """A file of a folder: an attribute of the folder's class that gives its path."""

    name: str
    pixels: bool = False  #: left out where a pipeline shows no images
    of_choice: bool = False  #: made on request of what an arm chose, and gone when that changes

    @overload
    def __get__(self, folder: None, owner: type) -> File: ...
    @overload
    def __get__(self, folder: Any, owner: type) -> Path: ...
    def __get__(self, folder: Any, owner: type) -> File | Path:
        """Return the path in a folder."""
        return self if folder is None else folder.path / self.name


@dataclass(frozen=True)
class TrainingFolder:
    """A backbone and how it came about: ``arms/ARM/PRETRAIN/seed-SEED``, ``baselines/BASELINE/seed-SEED``."""

    path: Path
    backbone = File("backbone.safetensors")
    history = File("history.csv")
    facts = File("pretrain.json")

    def predictions(self, task: str, protocol: str, repeat: int, labels: float) -> Path:
        """Table of predictions of one evaluation with a share of the labels; its facts lie beside it."""
        return self.path / task / protocol / f"repeat-{repeat}-labels-{labels:g}.csv"


@dataclass(frozen=True)
class ArmFolder:
    """What an arm chose, and what became of it: ``arms/ARM``."""

    path: Path
    facts = File("arm.json")
    pictures = File("pictures.npz", pixels=True)
    curve = File("curve.csv", of_choice=True)
    plot = File("curve.svg", of_choice=True)
    explanation = File("explain.html", pixels=True, of_choice=True)

    def selection(self, seed: int | None, slices: int = 0) -> Path:
        """What the arm keeps of so many slices, one by one; of one seed where it draws."""
        return (self.path if seed is None else self.path / f"draw-{seed}") / _SELECTIONS[slices > LARGE]

    @property
    def selections(self) -> list[Path]:
        """Every selection that is there, by seed."""
        found = ((self.path / name, *_by_number(self.path, f"draw-*/{name}")) for name in _SELECTIONS)
        return [path for path in itertools.chain(*found) if path.exists()]

    @property
    def trainings(self) -> Iterator[tuple[str, int, TrainingFolder]]:
        """Pre-training, seed and folder of every training that is done."""
        for facts in _by_number(self.path, f"*/seed-*/{TrainingFolder.facts.name}"):
            if seed := _SEED.fullmatch(facts.parts[-2]):  # else it is none of a run's
                yield facts.parts[-3], int(seed[1]), TrainingFolder(facts.parent)


@dataclass(frozen=True)
class Outline:
    """What a pipeline asks for, as far as its run folder shows it."""

    selections: Collection[tuple[str, int | None]]  #: arm and seed, None for all seeds
    trainings: Collection[tuple[str, str, int]]  #: arm, pre-training and seed
    baselines: Collection[tuple[str, int]]  #: baseline and seed
    evaluations: Collection[tuple[str, str, int, float]]  #: of each backbone: task, protocol, repeat, share of labels
    images: bool  #: whether pixels may be shown


@dataclass(frozen=True)
class RunFolder:
    """The layout of ``runs/<name>/``."""

    path: Path
    provenance = File("run.json")
    log = File("run.log")  #: of every start of this run; ``run.jsonl`` where it is one of JSON lines
    volumes = File("volumes.csv")
    skipped = File("skipped.csv")
    results = File("results.csv")
    comparisons = File("comparisons.csv")
    leaks = File("leaks.csv")
    mistakes = File("mistakes.npz", pixels=True)
    report = File("report.html")
    lock = File(".lock")

    def arm(self, arm: str) -> ArmFolder:
        """Folder of an arm."""
        return ArmFolder(self.path / "arms" / arm)

    def pretrain(self, arm: str, pretrain: str, seed: int) -> TrainingFolder:
        """Folder of one pre-training."""
        return TrainingFolder(self.arm(arm).path / pretrain / f"seed-{seed}")

    def baseline(self, baseline: str, seed: int) -> TrainingFolder:
        """Folder of one backbone of a baseline."""
        return TrainingFolder(self.path / "baselines" / baseline / f"seed-{seed}")

    @property
    def arms(self) -> list[ArmFolder]:
        """Folders of the arms that have been chosen."""
        return [ArmFolder(facts.parent) for facts in sorted(self.path.glob(f"arms/*/{ArmFolder.facts.name}"))]

    @property
    def predictions(self) -> Iterator[tuple[str, str, int, str, str, int, float, Path]]:
        """Arm, pre-training ("" for a baseline), seed, task, protocol, repeat and labels of every table, and itself."""
        below = "seed-*/*/*/repeat-*-labels-*.csv"
        for table in _by_number(self.path, f"arms/*/*/{below}", f"baselines/*/{below}"):
            *owner, folder, task, protocol = table.relative_to(self.path).parts[1:-1]
            seed, evaluation = _SEED.fullmatch(folder), _EVALUATION.fullmatch(table.stem)
            if seed and evaluation:  # else it is none of a run's
                arm, pretrain = owner if len(owner) == 2 else (*owner, "")
                yield arm, pretrain, int(seed[1]), task, protocol, int(evaluation[1]), float(evaluation[2]), table

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other processes.

        Raises ``LockedError`` where another holds it, ``StorageError`` where the folder cannot be made, and
        ``RequestError`` where it holds something else, for a run removes what its pipeline no longer makes.
        """
        lock = FileLock(self.lock, timeout=PATIENCE)
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
        if self.provenance.exists():
            return
        strangers = (path for path in self.path.iterdir() if not any(map(path.match, _BEFORE_PROVENANCE)))
        strange = next((path.name for path in strangers), None)
        if strange is not None:
            raise RequestError(f"{self.path} is not a run folder but has {strange!r}; give this run another folder")

    @property
    def is_live(self) -> bool:
        """Whether a process holds the folder; where that cannot be told, it counts as held."""
        return is_held(self.lock)

    def files(self, outline: Outline) -> set[Path]:
        """Every file that a pipeline leaves for its arms and baselines, and the tables of results where it has any."""
        found = {self.arm(arm).selection(seed) for arm, seed in outline.selections}
        found.update(*(_files(self.arm(arm), images=outline.images) for arm, _ in outline.selections))
        trained = [*(self.pretrain(*one) for one in outline.trainings), *(self.baseline(*b) for b in outline.baselines)]
        found.update(*(_files(one, images=outline.images) for one in trained))
        tables = {one.predictions(*evaluation) for one in trained for evaluation in outline.evaluations}
        found |= tables | {facts_beside(table) for table in tables}
        if outline.evaluations:
            found |= {self.results, self.comparisons, self.leaks} | ({self.mistakes} if outline.images else set())
        return found

    def keep_only(self, files: Collection[Path]) -> None:
        """Remove what an earlier version of the pipeline left; all of it can be made again from the cache.

        Files that ctkit does not write stay.
        """
        for result in (self.results, self.comparisons, self.leaks, self.mistakes):
            if result not in files:
                result.unlink(missing_ok=True)
        packed = {path.with_name(_SELECTIONS[1]) for path in files if path.name == _SELECTIONS[0]}
        for name in ("arms", "baselines"):
            forget(self.path / name, packed.union(files))


def facts_beside(predictions: Path) -> Path:
    """Where the facts of a table of predictions lie."""
    return predictions.with_suffix(".json")


def forget(folder: Path, but: Collection[Path] = ()) -> None:
    """Remove what a run wrote below a folder of its run folder, ``but`` for some files, and folders that are empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # it is not empty
                path.rmdir()
        elif path not in but and any(path.match(name) for name in _WRITTEN):
            path.unlink()


def forget_on_request(arm: ArmFolder) -> None:
    """Remove what was made on request of what an arm chose, which is to change."""
    for file in _declared(ArmFolder):
        if file.of_choice:
            (arm.path / file.name).unlink(missing_ok=True)


def place(source: Path, target: Path) -> None:
    """Put a file of the cache into a run folder: a copy, so that no change to it reaches the cache."""
    if not is_same(source, target):
        with writing(target) as temporary:
            shutil.copyfile(source, temporary)


def read_provenance(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` of a run folder holds, {} where there is none."""
    return read_json(RunFolder(run).provenance)


def _declared(folder: type) -> Iterable[File]:
    return (file for file in vars(folder).values() if isinstance(file, File))


def _files(folder: ArmFolder | TrainingFolder, *, images: bool) -> set[Path]:
    return {folder.path / file.name for file in _declared(type(folder)) if images or not file.pixels}


def _by_number(folder: Path, *patterns: str) -> list[Path]:
    """Sort so that seed-9 comes before seed-10."""
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return sorted(found, key=lambda path: [(len(part), part) for part in path.parts])


#: What a run writes below ``arms`` and ``baselines``, and removes when its pipeline no longer makes it.
_WRITTEN = (
    *(file.name for folder in (ArmFolder, TrainingFolder) for file in _declared(folder)),
    *(*_SELECTIONS, "repeat-*-labels-*.csv", "repeat-*-labels-*.json", ".*.part"),
)
#: What may lie in a run folder that has no ``run.json`` yet.
_BEFORE_PROVENANCE = (
    *(file.name for file in (RunFolder.lock, RunFolder.log)),
    *("run.jsonl", ".journal", ".run.json.*.part", ".DS_Store"),
)
