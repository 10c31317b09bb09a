"""What the files of a run folder hold: a class for each table, whose fields are its columns, and for each document."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict, TypeVar, cast, get_type_hints

from ctkit.errors import DataError
from ctkit.files import open_csv, read_json, write_csv

Step = Annotated[int, "a step"]  #: a method may count in floats
AllDigits = Annotated[float, "all digits"]  #: other numbers are written with six; NaN is an empty cell


class VolumeRow(NamedTuple):
    """A volume: a row of ``volumes.csv``."""

    volume: str  #: digest
    patient: str  #: digest
    slices: int  #: readable ones
    rows: int  #: pixels
    columns: int  #: pixels
    spacing_x: float  #: mm, NaN where unknown
    spacing_y: float
    spacing_z: float  #: the median
    kernel: str
    thickness: float  #: mm, NaN where unknown
    notes: tuple[str, ...]  #: what is unusual


class SkippedRow(NamedTuple):
    """A file or slice that was left out: a row of ``skipped.csv``."""

    source: str  #: below the data set's root
    reason: str


class SliceRow(NamedTuple):
    """A slice and whether an arm keeps it: a row of ``selection.csv``."""

    slice: int  #: number in the data set
    volume: str  #: digest
    source: str  #: below the data set's root
    index: int  # type: ignore[assignment]  #: number in the volume  # tuples have a method of that name
    kept: bool
    represented_by: int | None  #: number of the slice that stands for a dropped one
    distance: float  #: to that slice, in the reducer's unit; NaN where none stands for it


class CurveRow(NamedTuple):
    """What a value of an arm's knob would keep: a row of ``curve.csv``."""

    at: float
    kept: int  #: slices
    share: float


class HistoryRow(NamedTuple):
    """A number of a training at a step: a row of ``history.csv``."""

    step: Step
    name: str
    value: AllDigits


class Place(NamedTuple):
    """What a score is a score of, but for the arm and the seed."""

    pretrain: str  #: "" for a baseline
    task: str
    protocol: str
    labels: float  #: share of the training labels


class ScoreRow(NamedTuple):
    """A score: a row of ``results.csv``."""

    arm: str  #: or a baseline
    pretrain: str  #: "" for a baseline
    task: str
    protocol: str
    labels: float  #: share of the training labels
    seed: str  #: "all" for the seeds pooled
    repeat: str  #: "all" for the repeats of the evaluation pooled
    metric: str
    value: float
    ci_low: float  #: of the 95 % interval over other test images
    ci_high: float
    sd_seeds: float  #: standard deviation over seeds, NaN for one
    sd_repeats: float  #: standard deviation over repeats, inside seeds, NaN for one

    @property
    def place(self) -> Place:
        """What it is a score of."""
        return Place(self.pretrain, self.task, self.protocol, self.labels)

    @property
    def pooled(self) -> bool:
        """Whether this is the score over all seeds."""
        return self.seed == "all"


class ComparisonRow(NamedTuple):
    """A metric of ``arm`` less that of ``reference``: a row of ``comparisons.csv``."""

    arm: str
    reference: str  #: an arm or a baseline; ``contrast`` says what it is
    pretrain: str
    task: str
    protocol: str
    labels: float  #: share of the training labels
    metric: str
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_adjusted: float
    test: str  #: what interval and p come from
    contrast: str = "reference"  #: with the "reference", an arm of the "same size", or a "baseline"
    family: str = ""  #: that p is adjusted in: "primary" where it answers the run's question, else "secondary"

    @property
    def place(self) -> Place:
        """What is compared."""
        return Place(self.pretrain, self.task, self.protocol, self.labels)


Row = TypeVar("Row", bound=NamedTuple)
_WRITTEN: Mapping[Any, Callable[[Any], str]] = {  # of types that ``write_csv`` does not write as it should
    float: lambda value: "" if math.isnan(value) else f"{value:.6g}",
    tuple[str, ...]: lambda notes: "; ".join(note.replace("; ", ", ") for note in notes),
}
_READ: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    bool: "true".__eq__,
    int | None: lambda text: int(text) if text else None,
    float: lambda text: float(text) if text else math.nan,
    AllDigits: lambda text: float(text) if text else math.nan,
    Step: lambda text: int(float(text)),
    tuple[str, ...]: lambda text: tuple(part for part in text.split("; ") if part),
}


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write a table, one row at a time."""
    forms = [_WRITTEN.get(hint) for hint in _columns(kind).values()]
    cells = ([form(value) if form else value for form, value in zip(forms, row, strict=True)] for row in rows)
    write_csv(path, kind._fields, cells)


def read_rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    """Read a table, one row at a time; nothing where there is none. Other columns than those of ``kind`` are no matter.

    Raises ``DataError`` where the table lacks a column that has no default.
    """
    if not path.exists():
        return
    with open_csv(path) as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if lacking := [name for name in kind._fields if name not in header and name not in kind._field_defaults]:
            raise DataError(f"{path} has no column {lacking[0]!r}; run again to rebuild it")
        later = list(kind._field_defaults.values())  # of the last columns, as text: an earlier version had none
        header += [name for name in kind._field_defaults if name not in header]
        cells = [(header.index(name), _READ[hint]) for name, hint in _columns(kind).items()]
        for line in filter(None, lines):
            line += later[len(later) - len(header) + len(line) :]
            yield kind._make(read(line[place]) for place, read in cells)


def _columns(kind: type[Row]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


# --- documents ----------------------------------------------------------------------------------------------------


class StepFacts(TypedDict):
    """A step of an arm."""

    use: str  #: the reducer
    parameters: dict[str, Any]
    knob: str | None
    unit: str | None  #: of the knob
    at: float | None  #: the knob's value
    scope: str


class ArmFacts(TypedDict):
    """What an arm is and keeps: ``arm.json``."""

    arm: str
    steps: list[StepFacts]
    asked: dict[str, Any] | None  #: the budget
    asked_slices: NotRequired[int | None]  #: that the budget comes to
    seeds: list[int]  #: of draws
    slices: int  #: there were
    kept: int
    seconds_select: NotRequired[float]
    selections: NotRequired[list[str]]  #: addresses
    names: NotRequired[str]  #: tells apart the salts that digests were made with


class TrainingFacts(TypedDict):
    """How a backbone came about: ``pretrain.json``."""

    slices: int
    mean: float  #: of the pixels, on the scale 0..1
    std: float
    jobs: NotRequired[int]  #: trainings at once
    steps: int
    epochs: float
    batch: int
    seconds: float
    notes: list[str]
    collapsed: NotRequired[bool]
    waiting: NotRequired[float | None]  #: share of the seconds in which the device waited for data
    joules: NotRequired[float | None]
    peak_bytes: NotRequired[int | None]
    address: NotRequired[str]
    method: str
    parameters: dict[str, Any]
    slices_per_second: float
    device: str


class PredictionFacts(TypedDict, total=False):
    """What a table of predictions cannot say: the document beside it."""

    classes: list[str]
    positive: str | None  #: of two classes, the one that F1 and sensitivity speak of
    notes: list[str]
    warnings: list[str]
    patients: bool  #: whether the table has them
    address: str


def read_arm(path: Path) -> ArmFacts | None:
    """Read ``arm.json``; None where it is missing or damaged."""
    return cast(ArmFacts, found) if (found := read_json(path)) else None


def read_training(path: Path) -> TrainingFacts | None:
    """Read ``pretrain.json``; None where it is missing or damaged."""
    return cast(TrainingFacts, found) if (found := read_json(path)) else None


PREDICTION_COLUMNS = ("name", "patient", "label")  #: one for each class, or for each measure, follows
