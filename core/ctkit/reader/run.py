"""A run as its folder shows it: every file of it, as much of it as there is; neither data nor cache are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ctkit.console import Console
from ctkit.contracts import Bools, Exported, ExportFormat, Floats, Ints, Method, Params, Predictions
from ctkit.errors import RequestError
from ctkit.stages import predictions
from ctkit.storage import ArmFolder, RunFolder, TrainingFolder, read_provenance, records
from ctkit.storage.records import read_rows
from ctkit.storage.run_folder import facts_beside

if TYPE_CHECKING:
    from ctkit.reader.arm import RevisitedArm
    from ctkit.slices import Pictures


def open_run(path: str | Path) -> Run:
    """Open the folder of a run, finished or not. Raises ``RequestError`` where there is no run in it.

    Only ``run.json`` is read at once; all other files when they are asked for::

        run = ctkit.open_run("runs/first")
        for arm in run.arms:
            print(arm.name, arm.kept, f"{arm.share:.1%}")
        pandas.DataFrame(run.scores)  # the columns of results.csv
    """
    run = Run(Path(path))
    if not isinstance(run.facts.get("pipeline"), Mapping):
        raise RequestError(f"{path} is not a run folder: it has no run.json")
    return run


@dataclass(frozen=True)
class SelectionTable:
    """An arm's choice among ``n`` slices, in the order of the data set."""

    names: tuple[str, ...]  #: digests of the volumes
    volume: Ints  #: (n,) number in ``names``
    index: Ints  #: (n,) number of the slice in its volume
    kept: Bools  #: (n,)
    distance: Floats  #: (n,) to the slice that stands for a dropped one, in the reducer's unit; NaN where there is none


@dataclass(frozen=True)
class RunArm:
    """An arm: what was asked, and what was chosen; of several draws, the first."""

    folder: ArmFolder
    facts: records.ArmFacts

    @property
    def name(self) -> str:
        """Its id in the pipeline file."""
        return self.facts["arm"]

    @property
    def kept(self) -> int:
        """Slices kept."""
        return self.facts["kept"]

    @property
    def slices(self) -> int:
        """Slices there were."""
        return self.facts["slices"]

    @property
    def share(self) -> float:
        """Share of the slices that is kept, in 0..1."""
        return self.kept / max(self.slices, 1)

    @property
    def unit(self) -> str:
        """Unit of the arm's distances, "" where there is none."""
        return next((step["unit"] for step in reversed(self.facts["steps"]) if step["unit"]), "")

    @property
    def at(self) -> float | None:
        """Knob of the last step, None where it has none."""
        return self.facts["steps"][-1]["at"]

    @cached_property
    def selection(self) -> SelectionTable | None:
        """What it keeps, slice by slice: ``selection.csv``."""
        return next((_chosen(file) for file in self.folder.selections), None)

    @cached_property
    def curve(self) -> tuple[records.CurveRow, ...]:
        """What each value of its knob would keep, ascending: ``curve.csv``."""
        return tuple(read_rows(self.folder.curve, records.CurveRow))

    @cached_property
    def pictures(self) -> Pictures | None:
        """Some of its slices: ``pictures.npz``."""
        from ctkit.slices import read_pictures  # brings much that a reader of tables needs not

        return read_pictures(self.folder.pictures)


@dataclass(frozen=True)
class RunTraining:
    """A pre-training: an arm, a method, a seed."""

    arm: str
    pretrain: str
    seed: int
    facts: records.TrainingFacts
    folder: TrainingFolder

    @cached_property
    def history(self) -> Mapping[str, tuple[Floats, Floats]]:
        """Steps (m,) and values (m,) of every number that was recorded, by its name: ``history.csv``."""
        points: dict[str, list[tuple[float, float]]] = {}
        for row in read_rows(self.folder.history, records.HistoryRow):
            points.setdefault(row.name, []).append((row.step, row.value))
        curves = {name: np.array(pairs, np.float64) for name, pairs in points.items()}
        return {name: (curve[:, 0], curve[:, 1]) for name, curve in curves.items()}


@dataclass(frozen=True)
class RunPredictions:
    """Predictions of one evaluation; ``read`` them when their turn comes, for they may be large."""

    arm: str  #: or a baseline
    pretrain: str  #: "" for a baseline
    seed: int
    task: str
    protocol: str
    repeat: int
    labels: float  #: share of the training labels
    path: Path  #: of the table

    @cached_property
    def facts(self) -> predictions.PredictionFacts:
        """What the table cannot say: the positive class, notes and warnings; {} where a run left none."""
        return predictions.read_prediction_facts(facts_beside(self.path))

    def read(self) -> Predictions:
        """Read the table. Raises ``DataError`` where it names a label that is none of its classes."""
        return predictions.read_predictions(self.path, facts_beside(self.path))


@dataclass(frozen=True)
class RunBackbone:
    """A backbone that an arm's slices have trained."""

    arm: str
    pretrain: str
    seed: int
    path: Path
    method: str  #: as a pipeline file names it

    def export(self, form: ExportFormat, out: Path) -> Exported:
        """Write it for use without ctkit, and compare its features with the original's.

        Raises ``PluginError`` where the method is not installed.
        """
        from ctkit import plugins

        method = cast(type[Method[Params]], plugins.load().find("method", self.method).load())
        return method.export(self.path, form, out)


@dataclass(frozen=True)
class Run:
    """A run folder. What is asked for a second time is not read again."""

    path: Path

    @property
    def folder(self) -> RunFolder:
        """Where each of its files lies."""
        return RunFolder(self.path)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """How the run came about: ``run.json``."""
        return read_provenance(self.path)

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """The resolved pipeline file."""
        return cast(Mapping[str, Any], self.facts["pipeline"])

    @property
    def images(self) -> bool:
        """Whether pixels may be shown."""
        return bool(self.pipeline.get("report", {}).get("images", True))

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines: backbones that no arm's slices have trained."""
        return [baseline["id"] for baseline in self.pipeline.get("baseline", [])]

    @cached_property
    def arms(self) -> tuple[RunArm, ...]:
        """The arms that have been chosen, as the pipeline orders them."""
        order = [arm.get("id") for arm in self.pipeline.get("reduce", [])]
        found = [RunArm(folder, facts) for folder in self.folder.arms if (facts := records.read_arm(folder.facts))]
        return tuple(sorted(found, key=lambda arm: order.index(arm.name) if arm.name in order else len(order)))

    def arm(self, name: str) -> RunArm | None:
        """The arm of that name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    @property
    def reference(self) -> str | None:
        """The arm that others are measured against: as compared, else the one that keeps every slice."""
        rows = (row for row in self.comparisons if row.contrast == "reference" and row.reference not in self.baselines)
        compared = next((row.reference for row in rows), None)
        return compared or next((arm.name for arm in self.arms if arm.kept == arm.slices), None)

    @cached_property
    def trainings(self) -> tuple[RunTraining, ...]:
        """The pre-trainings that are done, arm by arm."""
        return tuple(
            RunTraining(arm.name, pretrain, seed, facts, folder)
            for arm in self.arms
            for pretrain, seed, folder in arm.folder.trainings
            if (facts := records.read_training(folder.facts))
        )

    @property
    def backbones(self) -> list[RunBackbone]:
        """The backbones that are there, arm by arm."""
        return [
            RunBackbone(arm["id"], plan["id"], seed, path, plan["use"])
            for arm in self.pipeline.get("reduce", [])
            for plan in self.pipeline.get("pretrain", [])
            for seed in self.facts.get("seeds", [])
            if (path := self.folder.pretrain(arm["id"], plan["id"], seed).backbone).exists()
        ]

    @cached_property
    def scores(self) -> tuple[records.ScoreRow, ...]:
        """Scores of every seed and repeat, and pooled: ``results.csv``."""
        return tuple(read_rows(self.folder.results, records.ScoreRow))

    @cached_property
    def comparisons(self) -> tuple[records.ComparisonRow, ...]:
        """Differences from the reference arm, from arms of the same size and from baselines: ``comparisons.csv``."""
        return tuple(read_rows(self.folder.comparisons, records.ComparisonRow))

    @cached_property
    def predictions(self) -> tuple[RunPredictions, ...]:
        """Predictions of every evaluation, of the arms in their order and then of the baselines."""
        found = [RunPredictions(*table) for table in self.folder.predictions]
        scored = [*(arm.name for arm in self.arms), *self.baselines]
        return tuple(one for name in scored for one in found if one.arm == name)

    @cached_property
    def mistakes(self) -> Mapping[str, Mapping[int, NDArray[np.uint8]]]:
        """Confident mistakes (side, side), by task and row of its predictions, counted from 1: ``mistakes.npz``."""
        from ctkit.slices import read_mistakes

        stored = read_mistakes(self.folder.mistakes)
        return {task: dict(zip(rows.tolist(), images, strict=True)) for task, (rows, images) in stored.items()}

    @cached_property
    def volumes(self) -> tuple[records.VolumeRow, ...]:
        """The volumes of the data set: ``volumes.csv``."""
        return tuple(read_rows(self.folder.volumes, records.VolumeRow))

    @cached_property
    def skipped(self) -> Mapping[str, int]:
        """How many files and slices were left out, by reason: ``skipped.csv``."""
        return Counter(row.reason for row in read_rows(self.folder.skipped, records.SkippedRow))

    def revisit(self, arm: str, console: Console | None = None) -> AbstractContextManager[RevisitedArm]:
        """Open an arm with its slices, for which data and cache must be what they were; hold the folder meanwhile.

        ``console`` shows the progress; without one there is silence. Raises ``RequestError`` where there is no such
        arm, or data or cache are not there::

            with run.revisit("hash6") as arm:
                first = arm.images(arm.slices_of(0)[:4])
        """
        from ctkit.reader.arm import revisit

        return revisit(self.path, arm, console or Console(quiet=True))


def _chosen(file: Path) -> SelectionTable:
    """Read a selection row by row: those of large data sets have millions."""
    numbers: dict[str, int] = {}
    rows: Iterator[records.SliceRow] = read_rows(file, records.SliceRow)
    wanted = ((numbers.setdefault(row.volume, len(numbers)), row.index, row.kept, row.distance) for row in rows)
    columns = np.fromiter(wanted, np.dtype("i8,i8,?,f8"))
    volume, index, kept, distance = (np.ascontiguousarray(columns[name]) for name in columns.dtype.names or ())
    return SelectionTable(tuple(numbers), volume, index, kept, distance)
