"""What a section of the report is made of, for the template to lay out: tables, matrices, plots, an arm's looks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ctkit import Run, quantities, redaction
from ctkit_reports import wording
from ctkit_reports.figures import Look, swatch


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


@dataclass(frozen=True)
class Looks:
    """How each arm and baseline looks; the reference arm has look 0, the page's own ink."""

    by_arm: dict[str, Look]

    @classmethod
    def of(cls, run: Run) -> Looks:
        """Give every arm a look."""
        others = [arm.name for arm in run.arms if arm.name != run.reference] + run.baselines
        names = dict(enumerate(others, start=1)) | ({0: run.reference} if run.reference else {})
        return cls({name: Look(number) for number, name in names.items()})

    def __getitem__(self, arm: str) -> Look:
        return self.by_arm[arm]

    def legend(self, arms: Sequence[str]) -> list[tuple[str, Markup]]:
        """Names and swatches of ``arms``."""
        return [(arm, swatch(self[arm])) for arm in arms]

    def cell(self, arm: str) -> Cell:
        """The cell that names an arm."""
        return Cell(arm, arm, look=self[arm])


def text(value: str, tone: str = "") -> Cell:
    """A cell of words."""
    return Cell(value or wording.NOTHING, value, tone=tone)


def number(value: float, shown: str | None = None, detail: str = "") -> Cell:
    """A cell with a number, ``shown`` as given or as ``wording.number`` has it."""
    if math.isnan(value):
        return Cell(wording.NOTHING, value)
    return Cell(wording.number(value) if shown is None else shown, value, detail)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table | None:
    """A table, or None without rows. It leaves out empty columns, and the method where there is but one."""
    if not rows:
        return None
    said = [{row[i].text for row in rows} for i in range(len(columns))]
    shown = [
        i
        for i, column in enumerate(columns)
        if said[i] != {wording.NOTHING} and not (column == "Method" and len(said[i] - {wording.NOTHING}) == 1)
    ]
    return Table(caption, tuple(columns[i] for i in shown), tuple(tuple(row[i] for i in shown) for row in rows))


def unique(words: Iterable[str]) -> list[str]:
    """Each word once, in the order of their first appearance."""
    return list(dict.fromkeys(words))


def grouped(notes: Iterable[tuple[str, str]], runs: int) -> tuple[tuple[str, str], ...]:
    """Pairs of a note and the run it was made in, as each note once and in which of the ``runs`` it was made."""
    where: dict[str, list[str]] = {}
    for note, run in notes:
        where.setdefault(redaction.without_paths(note), []).append(run)
    return tuple((note, _where(unique(found), runs)) for note, found in where.items())


def _where(found: list[str], runs: int) -> str:
    if len(found) == runs > 1:
        return "every run"
    return "; ".join(found) if len(found) <= 3 else quantities.count(len(found), "run")
