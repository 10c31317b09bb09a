"""Reading a run folder back: every file of the contract, as much of it as there is."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools, Floats, Ints, Predictions
from ctkit.errors import DataError, RequestError
from ctkit.files import iterate_csv, read_csv
from ctkit_reports import wording

Facts = Mapping[str, Any]
_ITEM_NOTE = re.compile(r"(\S+/\S+): (.*)")


@dataclass(frozen=True)
class Selection:
    """An arm's choice among ``n`` slices, in the order it was made in."""

    names: tuple[str, ...]  #: digests of the volumes
    volume: Ints  #: (n,) number in ``names``
    index: Ints  #: (n,) number of the slice in its volume
    kept: Bools  #: (n,)
    distance: Floats  #: (n,) to the slice that stands for a dropped one, NaN where there is none


@dataclass(frozen=True)
class Pictures:
    """Example slices of an arm, (n, side, side) uint8; ``stand_in`` and ``distance`` belong to ``dropped``."""

    kept: NDArray[np.uint8]
    dropped: NDArray[np.uint8]
    stand_in: NDArray[np.uint8]
    distance: NDArray[np.float32]


@dataclass(frozen=True)
class Arm:
    """One arm's folder: what was asked, and what was chosen (of several draws: the first)."""

    name: str
    facts: Facts
    folder: Path

    @property
    def kept(self) -> int:
        """Slices kept."""
        return int(self.facts["kept"])

    @property
    def slices(self) -> int:
        """Slices there were."""
        return int(self.facts["slices"])

    @property
    def share(self) -> float:
        """Share of the slices that is kept."""
        return self.kept / max(self.slices, 1)

    @property
    def unit(self) -> str:
        """Unit of the arm's distances, "" where there is none."""
        return next((step["unit"] for step in reversed(self.facts["steps"]) if step.get("unit")), "")

    @property
    def at(self) -> float | None:
        """Knob of the last step, None where it has none."""
        at = self.facts["steps"][-1]["at"]
        return None if at is None else float(at)

    @cached_property
    def selection(self) -> Selection | None:
        """The arm's ``selection.csv``."""
        files = [self.folder / "selection.csv", *_by_number(self.folder.glob("draw-*/selection.csv"))]
        return next((read_selection(file) for file in files if file.exists()), None)

    @cached_property
    def curve(self) -> tuple[Floats, Floats] | None:
        """The arm's ``curve.csv``: values of its knob (m,), ascending, and the slices each would keep (m,)."""
        rows = _rows(self.folder / "curve.csv")
        values = np.array([[_number(row["at"]), _number(row["kept"])] for row in rows]).reshape(-1, 2)
        return (values[:, 0], values[:, 1]) if rows else None

    @cached_property
    def pictures(self) -> Pictures | None:
        """The arm's ``pictures.npz``."""
        file = self.folder / "pictures.npz"
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as stored:
            return Pictures(stored["kept"], stored["dropped"], stored["stand_in"], stored["distance"])


@dataclass(frozen=True)
class Training:
    """One pre-training: an arm, a method, a seed."""

    arm: str
    pretrain: str
    seed: int
    facts: Facts
    history: Mapping[str, tuple[Floats, Floats]]  #: name to (steps, values)


@dataclass(frozen=True)
class Place:
    """What a score is a score of, but for the arm and the seed."""

    pretrain: str  #: "" for a baseline
    task: str
    protocol: str
    labels: float  #: share of the training labels


@dataclass(frozen=True)
class Scored:
    """A row of ``results.csv``."""

    arm: str  #: or a baseline
    place: Place
    seed: str  #: "all" for the seeds pooled
    repeat: str  #: "all" for the repeats of the evaluation pooled
    metric: str
    value: float
    low: float
    high: float
    sd_seeds: float  #: NaN for one seed
    sd_repeats: float  #: NaN for one repeat

    @property
    def pooled(self) -> bool:
        """Whether this is the score over all seeds."""
        return self.seed == "all"


@dataclass(frozen=True)
class Compared:
    """A row of ``comparisons.csv``: a metric of ``arm`` less that of ``reference``."""

    arm: str
    reference: str
    place: Place
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    test: str


@dataclass(frozen=True)
class Predicted:
    """A file of predictions; ``read`` it when its turn comes, for they may be large."""

    arm: str
    pretrain: str
    task: str
    protocol: str
    seed: str
    labels: float
    repeat: str
    file: Path

    @cached_property
    def facts(self) -> Facts:
        """The file beside the table: the positive class, notes and warnings; {} where a run left none."""
        beside = self.file.with_suffix(".json")
        found: Facts = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
        return found

    @property
    def name(self) -> str:
        """What a reader knows the evaluation by."""
        return ", ".join(filter(None, (self.arm, self.pretrain, f"seed {self.seed}", f"repeat {self.repeat}")))

    def read(self) -> Predictions:
        """Raise ``DataError`` where the file names a label that is none of its classes."""
        with self.file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            header, *rows = csv.reader(stream)
        classes = tuple(header[3:])
        numbers = {name: number for number, name in enumerate(classes)}
        unknown = {row[2] for row in rows} - set(classes)
        if unknown:
            raise DataError(f"{self.file}: the labels {sorted(unknown)} are none of the classes {list(classes)}")
        return Predictions(
            names=tuple(row[0] for row in rows),
            labels=np.array([numbers[row[2]] for row in rows], np.int64),
            probabilities=np.array([row[3:] for row in rows], np.float64).reshape(len(rows), len(classes)),
            classes=classes,
            positive=self.facts.get("positive"),
        )


@dataclass(frozen=True)
class Scan:
    """What ``volumes.csv`` and ``skipped.csv`` say, without patients and sources."""

    digests: tuple[str, ...]  #: (n,)
    slices: Ints  #: (n,)
    pixels: tuple[tuple[int, int], ...]  #: (n,) rows and columns
    spacing: Floats  #: (n, 3) x, y, z in mm, NaN where unknown
    notes: tuple[tuple[str, ...], ...]  #: (n,)
    patients: int
    skipped: Mapping[str, int]  #: files left out, by reason

    @property
    def extents(self) -> Ints:
        """Numbers of slices of the volumes of which any can be read."""
        return self.slices[self.slices > 0]


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    facts: Facts
    arms: tuple[Arm, ...]
    trainings: tuple[Training, ...]
    scores: tuple[Scored, ...]
    comparisons: tuple[Compared, ...]
    predictions: tuple[Predicted, ...]
    mistakes: Mapping[str, Mapping[int, NDArray[np.uint8]]]  #: by task and row of its prediction files: (side, side)
    scan: Scan | None

    @property
    def pipeline(self) -> Facts:
        """The resolved pipeline file."""
        pipeline: Facts = self.facts.get("pipeline", {})
        return pipeline

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines: backbones that no arm's slices have trained."""
        return _baselines(self.facts)

    @property
    def images(self) -> bool:
        """Whether pixels may be shown."""
        return bool(self.pipeline.get("report", {}).get("images", True))

    @property
    def notes(self) -> list[tuple[tuple[str, ...], str]]:
        """Notes with their item: (arm, pretrain, seed), of an evaluation also task and protocol, or ()."""
        arms = {arm.name for arm in self.arms}
        found: list[tuple[tuple[str, ...], str]] = []
        for note in self.facts.get("notes", []):
            match = _ITEM_NOTE.fullmatch(note)
            item = tuple(match[1].split("/")) if match else ()
            found.append((item, match[2]) if match and item[0] in arms else ((), note))
        return found

    @property
    def reference(self) -> str | None:
        """The arm that others are measured against: as compared, else the one that keeps every slice."""
        compared = next((row.reference for row in self.comparisons if row.reference not in self.baselines), None)
        return compared or next((arm.name for arm in self.arms if arm.kept == arm.slices), None)

    def title(self, place: Place) -> str:
        """Name a place by what sets it apart in this run."""
        places = {row.place for row in self.scores}
        words = [place.task, place.protocol]
        words += [wording.labels(place.labels)] if len({other.labels for other in places}) > 1 else []
        words += [place.pretrain] if place.pretrain and len({other.pretrain for other in places} - {""}) > 1 else []
        return ", ".join(words)

    def arm(self, name: str) -> Arm | None:
        """The arm of that name."""
        return next((arm for arm in self.arms if arm.name == name), None)


def read_run(folder: Path) -> Run:
    """Read what a run left so far. Raises ``RequestError`` where ``folder`` is no run folder."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(f"no run.json in {folder}: give the folder that a run left") from error
    arms = _arms(folder, facts.get("pipeline", {}))
    predictions = list(_predicted(folder))
    scored = [*(arm.name for arm in arms), *_baselines(facts)]
    return Run(
        facts=facts,
        arms=arms,
        trainings=tuple(training for arm in arms for training in _trainings(arm)),
        scores=tuple(_scored(row) for row in _rows(folder / "results.csv")),
        comparisons=tuple(_compared(row) for row in _rows(folder / "comparisons.csv")),
        predictions=tuple(predicted for name in scored for predicted in predictions if predicted.arm == name),
        mistakes=_mistakes(folder / "mistakes.npz"),
        scan=_scan(folder),
    )


def read_selection(path: Path) -> Selection:
    """Read a ``selection.csv`` row by row: those of large data sets have half a million."""
    numbers: dict[str, int] = {}
    volume, index, kept, distance = [], [], [], []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        for row in csv.DictReader(stream):
            volume.append(numbers.setdefault(row["volume"], len(numbers)))
            index.append(int(row["index"]))
            kept.append(row["kept"] == "true")
            distance.append(_number(row["distance"]))
    return Selection(
        tuple(numbers),
        np.array(volume, np.int64),
        np.array(index, np.int64),
        np.array(kept, np.bool_),
        np.array(distance, np.float64),
    )


def _arms(folder: Path, pipeline: Facts) -> tuple[Arm, ...]:
    """Arms that have been chosen, as the pipeline orders them."""
    order = [arm.get("id") for arm in pipeline.get("reduce", [])]
    arms = []
    for file in sorted(folder.glob("arms/*/arm.json")):
        facts = json.loads(file.read_text(encoding="utf-8"))
        arms.append(Arm(facts["arm"], facts, file.parent))
    return tuple(sorted(arms, key=lambda arm: order.index(arm.name) if arm.name in order else len(order)))


def _baselines(facts: Facts) -> list[str]:
    return [baseline["id"] for baseline in facts.get("pipeline", {}).get("baseline", [])]


def _trainings(arm: Arm) -> Iterator[Training]:
    for file in _by_number(arm.folder.glob("*/seed-*/pretrain.json")):
        facts = json.loads(file.read_text(encoding="utf-8"))
        history = _history(file.with_name("history.csv"))
        yield Training(arm.name, file.parent.parent.name, int(file.parent.name.removeprefix("seed-")), facts, history)


def _history(file: Path) -> dict[str, tuple[Floats, Floats]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in _rows(file):
        points.setdefault(row["name"], []).append((_number(row["step"]), _number(row["value"])))
    curves = {name: np.array(pairs, np.float64) for name, pairs in points.items()}
    return {name: (curve[:, 0], curve[:, 1]) for name, curve in curves.items()}


def _predicted(folder: Path) -> Iterator[Predicted]:
    files = "seed-*/*/*/repeat-*-labels-*.csv"
    for file in _by_number(itertools.chain(folder.glob(f"arms/*/*/{files}"), folder.glob(f"baselines/*/{files}"))):
        *owner, seed, task, protocol = file.relative_to(folder).parts[1:-1]
        arm, pretrain = owner if len(owner) == 2 else (*owner, "")
        repeat, _, labels = file.stem.removeprefix("repeat-").partition("-labels-")
        yield Predicted(arm, pretrain, task, protocol, seed.removeprefix("seed-"), float(labels), repeat, file)


def _mistakes(file: Path) -> dict[str, dict[int, NDArray[np.uint8]]]:
    if not file.exists():
        return {}
    with np.load(file, allow_pickle=False) as stored:
        tasks = [name.removesuffix("/rows") for name in stored.files if name.endswith("/rows")]
        return {
            task: dict(zip(stored[f"{task}/rows"].tolist(), stored[f"{task}/images"], strict=True)) for task in tasks
        }


def _place(row: Mapping[str, str]) -> Place:
    return Place(row["pretrain"], row["task"], row["protocol"], float(row["labels"] or 1))


def _scored(row: Mapping[str, str]) -> Scored:
    numbers = (_number(row[column]) for column in ("value", "ci_low", "ci_high", "sd_seeds", "sd_repeats"))
    return Scored(row["arm"], _place(row), row["seed"], row["repeat"], row["metric"], *numbers)


def _compared(row: Mapping[str, str]) -> Compared:
    numbers = {column: _number(row[column]) for column in ("difference", "p", "p_adjusted")}
    low, high = _number(row["ci_low"]), _number(row["ci_high"])
    return Compared(
        row["arm"], row["reference"], _place(row), row["metric"], low=low, high=high, test=row["test"], **numbers
    )


def _scan(folder: Path) -> Scan | None:
    rows = _rows(folder / "volumes.csv")
    table = folder / "skipped.csv"
    skipped = Counter(row["reason"] for row in iterate_csv(table)) if table.exists() else Counter()
    if not rows and not skipped:
        return None
    spacing = [[_number(row[f"spacing_{axis}"]) for axis in "xyz"] for row in rows]
    return Scan(
        digests=tuple(row["volume"] for row in rows),
        slices=np.array([int(row["slices"]) for row in rows], np.int64),
        pixels=tuple((int(row["rows"]), int(row["columns"])) for row in rows),
        spacing=np.array(spacing, np.float64).reshape(len(rows), 3),
        notes=tuple(tuple(note for note in row["notes"].split("; ") if note) for row in rows),
        patients=len({row["patient"] for row in rows}),
        skipped=skipped,
    )


def _rows(file: Path) -> list[dict[str, str]]:
    return read_csv(file) if file.exists() else []


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _by_number(files: Iterable[Path]) -> list[Path]:
    """Sort so that seed-9 comes before seed-10."""
    return sorted(files, key=lambda file: [(len(part), part) for part in file.parts])
