"""What a section of the report is made of, for the template to lay out: tables, matrices, plots, an arm's looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from ctkit import ComparisonRow, Place, Run, ScoreRow, quantities, redaction
from ctkit.contracts import main_metric
from ctkit_reports import wording
from ctkit_reports.figures import Look, swatch

T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S", ScoreRow, ComparisonRow)


@dataclass(frozen=True)
class Cell:
    """A cell of a table, what it is sorted by, and how it is set."""

    text: str
    sort: float | str
    detail: str = ""  #: a quiet second line
    tone: str = ""  #: "better", "worse" or nothing
    look: Look | None = None  #: the arm that the cell names

    @property
    def numeric(self) -> bool:
        """Numbers are set flush right."""
        return not isinstance(self.sort, str)


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Matrix:
    """A square of shares in 0..1 that are shown as shades too."""

    caption: str
    names: tuple[str, ...]
    cells: tuple[tuple[tuple[str, float], ...], ...]  #: text and share
    axes: tuple[str, str] = ("", "")  #: what rows and columns are


@dataclass(frozen=True)
class Plot:
    """A plot, and in words what it shows for those who do not see it."""

    svg: Markup
    text: str


class Looks(dict[str, Look]):
    """How each arm and baseline looks; the reference arm has look 0, the page's own ink."""

    @classmethod
    def of(cls, run: Run) -> Looks:
        """Give every arm a look."""
        others = [arm.name for arm in run.arms if arm.name != run.reference] + run.baselines
        names = dict(enumerate(others, start=1)) | ({0: run.reference} if run.reference else {})
        return cls({name: Look(number) for number, name in names.items()})

    def legend(self, arms: Sequence[str]) -> list[tuple[str, Markup]]:
        """Names and swatches of ``arms``."""
        return [(arm, swatch(self[arm])) for arm in arms]

    def cell(self, arm: str) -> Cell:
        """The cell that names an arm."""
        return Cell(arm, arm, look=self[arm])


def text(value: str, tone: str = "") -> Cell:
    """A cell of words."""
    return Cell(value or wording.NOTHING, value, tone=tone)


def number(value: float | None, form: Callable[[float], str] = wording.number, detail: str = "") -> Cell:
    """A cell with a number in the given form; NaN and None are shown as nothing."""
    if value is None or math.isnan(value):
        return Cell(wording.NOTHING, math.nan)
    return Cell(form(value), value, detail)


def table(
    caption: str, rows: Sequence[Mapping[str, Cell]], heading: Callable[[str], str] = lambda column: column
) -> Table | None:
    """A table of rows, which give each column's cell; or None without rows.

    It leaves out empty columns, and the method where there is but one.
    """
    if not rows:
        return None
    said = {column: {row[column].text for row in rows} - {wording.NOTHING} for column in rows[0]}
    shown = tuple(column for column, words in said.items() if len(words) >= (2 if column == "Method" else 1))
    return Table(caption, tuple(map(heading, shown)), tuple(tuple(row[column] for column in shown) for row in rows))


def by(key: Callable[[T], K], items: Iterable[T]) -> dict[K, list[T]]:
    """The items of each key, keys and items in the order of their first appearance."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def main_rows(rows: Iterable[S], metric: str | None = None) -> list[S]:
    """The rows in ``metric``, or in the main metric of their task and protocol: AUC of classes, Dice of masks."""
    rows = list(rows)
    groups = by(lambda row: (row.place.task, row.place.protocol), rows)
    mains = {key: main_metric(group) for key, group in groups.items()}
    return [row for row in rows if row.metric == (metric or mains[row.place.task, row.place.protocol])]


def metrics(rows: Iterable[ScoreRow | ComparisonRow]) -> str:
    """The metrics of rows, in words."""
    return wording.listing([wording.metric(name) for name in unique(row.metric for row in rows)])


def title(run: Run, place: Place) -> str:
    """Name a place by what sets it apart in its run."""
    places = {row.place for row in run.score_rows}
    words = [place.task, place.protocol]
    words += [wording.labels(place.labels)] if len({other.labels for other in places}) > 1 else []
    words += [place.pretrain] if place.pretrain and len({other.pretrain for other in places} - {""}) > 1 else []
    return ", ".join(words)


def unique(words: Iterable[str]) -> list[str]:
    """Each word once, in the order of their first appearance."""
    return list(dict.fromkeys(words))


def grouped(notes: Iterable[tuple[str, str]], runs: int) -> tuple[tuple[str, str], ...]:
    """Pairs of a note and the run it was made in, as each note once and in which of the ``runs`` it was made."""
    where = by(lambda pair: redaction.without_paths(pair[0]), notes)
    return tuple((note, _where(unique(run for _, run in pairs), runs)) for note, pairs in where.items())


def _where(found: list[str], runs: int) -> str:
    if len(found) == runs > 1:
        return "every run"
    return "; ".join(found) if len(found) <= 3 else quantities.count(len(found), "run")
