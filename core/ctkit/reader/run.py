"""A run as its folder shows it: every file of it, as much of it as there is; neither data nor cache are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ctkit.console import Console
from ctkit.contracts import Bools, Exported, ExportFormat, Floats, Ints, Method, Params, Predictions
from ctkit.errors import PluginError, RequestError, nearest
from ctkit.hookspecs import DISTRIBUTION
from ctkit.storage import ArmFolder, RunFolder, TrainingFolder, read_provenance, records
from ctkit.storage.records import read_rows
from ctkit.storage.run_folder import facts_beside

if TYPE_CHECKING:
    from pandas import DataFrame

    from ctkit.reader.arm import RevisitedArm
    from ctkit.slices import Pictures


def open_run(path: str | Path) -> Run:
    """Open the folder of a run, finished or not. Raises ``RequestError`` where there is no run in it.

    Only ``run.json`` is read at once; all other files when they are asked for::

        run = ctkit.open_run("runs/first")
        for arm in run.arms:
            print(arm.name, arm.kept, f"{arm.share:.1%}")
        run.scores().query("seed == 'all'").pivot_table("value", "arm", "metric")
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
    def facts(self) -> records.PredictionFacts:
        """What the table cannot say: the positive class, notes and warnings; {} where a run left none."""
        from ctkit.stages.predictions import read_prediction_facts

        return read_prediction_facts(facts_beside(self.path))

    def read(self) -> Predictions:
        """Read the table. Raises ``DataError`` where it names a label that is none of its classes."""
        from ctkit.stages.predictions import read_predictions

        return read_predictions(self.path, facts_beside(self.path))


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
        rows = (
            row for row in self.comparison_rows if row.contrast == "reference" and row.reference not in self.baselines
        )
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
    def score_rows(self) -> tuple[records.ScoreRow, ...]:
        """Scores of every seed and repeat, and pooled: ``results.csv``."""
        return tuple(read_rows(self.folder.results, records.ScoreRow))

    @cached_property
    def comparison_rows(self) -> tuple[records.ComparisonRow, ...]:
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

    # --- tables, for which pandas is needed

    def scores(self) -> DataFrame:
        """Scores of every seed and repeat, and pooled where ``seed`` is "all": the columns of ``results.csv``."""
        return frame(self.score_rows, records.ScoreRow)

    def comparisons(self) -> DataFrame:
        """Differences between arms, with interval and p: the columns of ``comparisons.csv``."""
        return frame(self.comparison_rows, records.ComparisonRow)

    def selection(self, arm: str, seed: int | None = None) -> DataFrame:
        """A row for each slice, kept or not: the columns of ``selection.csv``.

        Of an arm that draws, the selection of ``seed``, or the first. Raises ``RequestError`` where there is none.
        """
        return frame(self._slices(arm, seed), records.SliceRow)

    # --- slices and backbones

    def kept(self, arm: str, seed: int | None = None) -> list[Path]:
        """Source files of the slices that an arm keeps, each once, in the order of the data set.

        Raises ``RequestError`` where there is no such arm, or the data set has no files.
        """
        return list(dict.fromkeys(Path(one["image"]) for one in self.datalist(arm, seed)))

    def datalist(self, arm: str, seed: int | None = None) -> list[dict[str, Any]]:
        """The slices that an arm keeps as a datalist for MONAI: the source file as ``image``, ``volume`` and ``index``.

        ``volume`` is a digest, ``index`` the number of the slice in its volume. Raises as ``kept``.
        """
        root = self.pipeline["dataset"].get("root")
        if root is None:
            raise RequestError(f"the data set of {self.path} has no source files; take `selection` or `dataset`")
        kept = (row for row in self._slices(arm, seed) if row.kept)
        return [{"image": str(Path(root) / row.source), "volume": row.volume, "index": row.index} for row in kept]

    def dataset(self, arm: str, console: Console | None = None) -> Any:
        """The slices that an arm keeps as a ``torch.utils.data.Dataset`` of (image, source).

        ``image`` is a float32 tensor (1, size, size) on the scale 0..1 in the run's training rendering, as
        ``backbone`` takes it; ``source`` is the file below the data set's root. Slices that are not in the slice store
        are decoded and stored first, for which data and cache must be what they were; of several draws, the first.
        Raises ``RequestError`` where that is not so, or torch is missing.
        """
        from ctkit.reader.arm import revisit

        with revisit(self.path, arm, console or Console(quiet=True), looking=False) as opened:
            rows, sources = opened.store()
        return _by_plugin("ctkit_open_slices", rows=rows, sources=sources)

    def backbone(self, arm: str | None = None, pretrain: str | None = None, seed: int | None = None) -> Any:
        """A backbone as a ``torch.nn.Module`` in evaluation mode, with its normalisation.

        It takes images (n, 1 or 3, height, width) on the scale 0..1 and gives features (n, ``width``); ``mean``,
        ``std``, ``architecture`` and ``metadata`` are those of the file. What is left out may not be ambiguous but for
        the seed, of which the first counts. Raises ``RequestError`` for that, and where torch is missing::

            network = run.backbone("hash6")
            features = network(torch.rand(8, 1, 224, 224))
        """
        chosen = self.find_backbones(arm, pretrain, seed)
        if len({(one.arm, one.pretrain) for one in chosen}) > 1:
            names = ", ".join(dict.fromkeys(f"{one.arm} with {one.pretrain}" for one in chosen))
            raise RequestError(f"{self.path} has several such backbones: {names}; name arm and pretrain")
        return _by_plugin("ctkit_open_backbone", path=chosen[0].path)

    def find_backbones(
        self, arm: str | None = None, pretrain: str | None = None, seed: int | None = None
    ) -> list[RunBackbone]:
        """The backbones that there are, or those of one arm, pre-training and seed.

        Raises ``RequestError`` where there is no backbone, or none of that name.
        """
        chosen = self.backbones
        if not chosen:
            raise RequestError(f"{self.path} has no backbone: it has no [[pretrain]], or did not reach this stage")
        for key, name in (("arm", arm), ("pretrain", pretrain), ("seed", seed)):
            there = {str(getattr(one, key)) for one in chosen}
            chosen = [one for one in chosen if name is None or getattr(one, key) == name]
            if not chosen:
                raise RequestError(f"{self.path} has no backbone of {key} {name!r}; {nearest(str(name), there)}")
        return chosen

    def _slices(self, arm: str, seed: int | None) -> Iterator[records.SliceRow]:
        found = self.arm(arm)
        if found is None:
            raise RequestError(f"{self.path} has no arm {arm!r}; {nearest(arm, {one.name for one in self.arms})}")
        files = [one for one in found.folder.selections if seed is None or one == found.folder.selection(seed)]
        if not files:
            raise RequestError(f"arm {arm!r} of {self.path} has no selection" + (f" of seed {seed}" if seed else ""))
        return read_rows(files[0], records.SliceRow)

    def revisit(self, arm: str, console: Console | None = None) -> AbstractContextManager[RevisitedArm]:
        """Open an arm with its slices, for which data and cache must be what they were; hold the folder meanwhile.

        ``console`` shows the progress; without one there is silence. Raises ``RequestError`` where there is no such
        arm, or data or cache are not there::

            with run.revisit("hash6") as arm:
                first = arm.images(arm.slices_of(0)[:4])
        """
        from ctkit.reader.arm import revisit

        return revisit(self.path, arm, console or Console(quiet=True))


def frame(rows: Iterable[Any], kind: type[Any]) -> DataFrame:
    """Rows as a table of pandas. Raises ``PluginError`` where that is missing."""
    from ctkit.plugins import missing_extra

    if extra := missing_extra(DISTRIBUTION, "pandas"):
        raise PluginError(f"tables need pandas: pip install '{extra}'")
    import pandas

    return pandas.DataFrame(list(rows), columns=list(kind._fields))


def _by_plugin(hook: str, **facts: Any) -> Any:
    """What the first plugin makes of values that can make anything of them. Raises ``PluginError`` where none can."""
    from ctkit import plugins

    if extra := plugins.missing_extra(DISTRIBUTION, "train"):
        raise PluginError(f"this needs torch: pip install '{extra}'")
    for made in plugins.load().call(hook, **facts):
        return made
    raise PluginError(f"no plugin has {hook}; is ctkit-models disabled?")


def _chosen(file: Path) -> SelectionTable:
    """Read a selection row by row: those of large data sets have millions."""
    numbers: dict[str, int] = {}
    rows: Iterator[records.SliceRow] = read_rows(file, records.SliceRow)
    wanted = ((numbers.setdefault(row.volume, len(numbers)), row.index, row.kept, row.distance) for row in rows)
    columns = np.fromiter(wanted, np.dtype("i8,i8,?,f8"))
    volume, index, kept, distance = (np.ascontiguousarray(columns[name]) for name in columns.dtype.names or ())
    return SelectionTable(tuple(numbers), volume, index, kept, distance)
