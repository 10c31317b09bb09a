"""The table across runs: a row for each pooled score, with what it cost and how it differs from the reference arm."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Literal

import numpy as np

from ctkit import ComparisonRow, Run, ScoreRow, open_run, quantities
from ctkit.errors import RequestError, nearest
from ctkit_reports import cost, wording
from ctkit_reports.elements import by, main_rows

Format = Literal["terminal", "csv", "markdown", "latex"]

COLUMNS = (
    *("run", "arm", "pretrain", "task", "protocol", "labels", "metric", "value", "ci_low", "ci_high"),
    *("kept", "slices", "pretrain_seconds", "reference", "difference", "difference_low", "difference_high"),
    *("p", "p_adjusted", "test", "control", "control_difference", "control_low", "control_high"),
    *("control_p", "control_p_adjusted", "control_test", "pretrain_cost", "published_all", "published_reduced"),
)
#: By task, the AUCs that Wolf et al. 2024 (doi:10.1016/j.compbiomed.2024.109242) give in their abstract for a network
#: that was pre-trained on all slices, and on the reduced set. Their haemorrhage set is private: other images.
PUBLISHED = {"covid-ct": (0.78, 0.83), "organsmnist": (0.97, 0.98), "brain-hemorrhage": (0.73, 0.83)}
_KEYS = ("Run", "Arm", "Method", "Task", "Protocol", "Labels", "Metric")
_VALUES = ("Score (95 % interval)", "Slices kept", "Cost", "Difference (95 % interval)", "Adjusted p")
_CONTROL = ("From an arm of the same size", "Adjusted p")
_PUBLISHED = "Published AUC (all, reduced)"


@dataclass(frozen=True)
class Row:
    """A score of an arm over all seeds of its run."""

    run: str
    score: ScoreRow
    kept: float  #: slices; NaN for a baseline
    slices: float
    seconds: float  #: of pre-training, mean over seeds; NaN where unknown
    compared: ComparisonRow | None  #: with the reference arm of the same run
    controlled: ComparisonRow | None = None  #: with the control of the same size
    cost: float = math.nan  #: of pre-training: steps x batch x size
    share: float = math.nan  #: of that, of what the reference arm cost
    published: tuple[float, float] | None = None  #: AUCs of the paper on this task: all slices, the reduced set


def across(runs: Sequence[Path], metric: str | None = None) -> list[Row]:
    """Read the rows of several run folders; of one metric, by default the main one of each protocol.

    Raises ``RequestError`` where a folder is no run, holds no score, or nowhere has that metric.
    """
    runs = list(dict.fromkeys(runs))  # one that is given twice counts once
    opened = {name: open_run(folder) for name, folder in zip(_names(runs), runs, strict=True)}
    for folder, run in zip(runs, opened.values(), strict=True):
        if not run.score_rows:
            raise RequestError(f"{folder} has no scores yet: its pipeline has no [[task]], or it ended earlier")
    known = list(dict.fromkeys(row.metric for run in opened.values() for row in run.score_rows))
    if metric is not None and metric not in known:
        raise RequestError(f"no run has the metric {metric!r}; {nearest(metric, known)}")
    rows = [row for name, run in opened.items() for row in _rows(name, run, metric)]
    return sorted(rows, key=lambda row: (row.score.place.task, row.score.place.protocol, -row.score.place.labels))


def without_rows(runs: Sequence[Path], rows: Sequence[Row]) -> list[str]:
    """Names of the runs that have no row: they lack the metric that was asked for."""
    return [name for name in _names(runs) if all(row.run != name for row in rows)]


def render(rows: Sequence[Row], form: Format) -> str:
    """Return the table as text: for a terminal, a spreadsheet, a page of notes or a paper."""
    if form == "csv":
        return _csv(rows)
    return _terminal(rows) if form == "terminal" else (_markdown if form == "markdown" else _latex)(_shown(rows))


def _names(runs: Sequence[Path]) -> list[str]:
    """Names of folders; where two are called alike, as they were given."""
    short = [folder.resolve().name for folder in runs]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, runs, strict=True)]


def _rows(name: str, run: Run, metric: str | None) -> Iterator[Row]:
    against = [row for row in main_rows(run.comparison_rows, metric) if row.reference not in run.baselines]
    compared = {(row.arm, row.place): row for row in against if row.contrast == "reference"}
    controls = {(row.arm, row.reference) for row in run.comparison_rows if row.family == "primary"}
    same_size = [row for row in against if row.contrast == "same size" and (row.arm, row.reference) in controls]
    controlled = {(row.arm, row.place): row for row in reversed(same_size)}
    tasks = {task["id"]: task["use"].rpartition(":")[2] for task in run.pipeline.get("task", ())}
    for score in main_rows(run.score_rows, metric):
        if score.pooled:
            arm = run.arm(score.arm)
            kept, slices = (arm.kept, arm.slices) if arm else (math.nan, math.nan)
            trained, here = (run, score.arm, score.place.pretrain), (score.arm, score.place)
            spent, share = cost.cost(*trained), 1 / cost.saving(*trained)
            as_published = score.metric == "auc" and score.place.labels == 1
            published = PUBLISHED.get(tasks.get(score.place.task, "")) if as_published else None
            differences = compared.get(here), controlled.get(here)
            yield Row(name, score, kept, slices, cost.seconds(*trained), *differences, spent, share, published)


# --- for machines -------------------------------------------------------------------------------------------------


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_plain(row) for row in rows)
    return text.getvalue()


def _plain(row: Row) -> Iterator[str]:
    score, place = row.score, row.score.place
    yield from (row.run, score.arm, place.pretrain, place.task, place.protocol, f"{place.labels:g}", score.metric)
    yield from map(_number, (score.value, score.ci_low, score.ci_high, row.kept, row.slices, row.seconds))
    for one in (row.compared, row.controlled):
        if one is None:
            yield from [""] * 7
        else:
            numbers = (one.difference, one.ci_low, one.ci_high, one.p, one.p_adjusted)
            yield from (one.reference, *map(_number, numbers), one.test)
    yield from map(_number, (row.cost, *(row.published or (math.nan, math.nan))))


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}" if isinstance(value, float) else str(value)


# --- for readers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """The table as people read it: what is the same in every row stands once, in the caption."""

    caption: str
    keys: int  #: columns of words; numbers follow
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _shown(rows: Sequence[Row]) -> _Shown:
    keys = [_keys(row) for row in rows]
    varying = [n for n, name in enumerate(_KEYS) if name == "Arm" or len({key[n] for key in keys}) > 1]
    same = [keys[0][n] for n in range(len(_KEYS)) if n not in varying]
    controls, published = any(row.controlled for row in rows), any(row.published for row in rows)
    more = (*(_CONTROL if controls else ()), *([_PUBLISHED] if published else ()))
    cells = tuple(
        (*(key[n] for n in varying), *_values(row), *(_difference(row.controlled) if controls else ()),
         *([_published(row)] if published else ()))
        for key, row in zip(keys, rows, strict=True)
    )  # fmt: skip
    return _Shown(", ".join(same), len(varying), (*(_KEYS[n] for n in varying), *_VALUES, *more), cells)


def _keys(row: Row) -> tuple[str, ...]:
    place = row.score.place
    metric, labels = wording.metric(row.score.metric), wording.labels(place.labels)
    return (row.run, row.score.arm, place.pretrain, place.task, place.protocol, labels, metric)


def _values(row: Row) -> tuple[str, ...]:
    share = wording.percent(row.kept / max(row.slices, 1))
    kept = wording.NOTHING if math.isnan(row.kept) else f"{quantities.count(row.kept)} ({share})"
    return (
        _with_interval(wording.score(row.score.value), wording.interval(row.score.ci_low, row.score.ci_high)),
        kept,
        wording.percent(row.share),
        *_difference(row.compared),
    )


def _difference(compared: ComparisonRow | None) -> tuple[str, str]:
    if compared is None:
        return wording.NOTHING, wording.NOTHING
    span = wording.interval(compared.ci_low, compared.ci_high, signed=True)
    return _with_interval(wording.difference(compared.difference), span), wording.p_value(compared.p_adjusted)


def _published(row: Row) -> str:
    return wording.NOTHING if row.published is None else ", ".join(f"{auc:.2f}" for auc in row.published)


def _with_interval(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _terminal(rows: Sequence[Row]) -> str:
    """A block of at most 80 columns for each run, task, protocol and share of the labels.

    A row that is compared with an arm of its size has a second line for that. Names that are too long are broken.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    screen = Console(width=80, force_terminal=False)
    several = len({row.score.place.pretrain for row in rows} - {""}) > 1
    with screen.capture() as captured:
        for title, group in by(_title, rows).items():
            table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
            heads = ("Kept", "Cost", "Score [95 %]", "Difference [95 %]", "Adj. p")
            lines = []
            for row in group:
                score, _, cost, *difference = _values(row)
                kept = wording.percent(row.kept / max(row.slices, 1))
                arm = f"{row.score.arm} {row.score.place.pretrain if several else ''}".rstrip()
                lines.append([arm, *map(_narrow, (kept, cost, score, *difference))])
                if one := row.controlled:
                    lines.append([f" − {one.reference}", *map(_narrow, ("", "", "", *_difference(one)))])
            room = 80 - sum(
                1 + max(map(len, column)) for column in zip(heads, *(line[1:] for line in lines), strict=True)
            )
            table.add_column("Arm", overflow="fold")
            for name in heads:
                table.add_column(name, justify="right", no_wrap=True)
            for arm, *cells in lines:
                table.add_row(fill(arm, room, subsequent_indent=" " * (2 * arm.startswith(" ") + 1)), *cells)
            screen.print(Text(title), table, "")
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _title(row: Row) -> str:
    """What the rows of a block share."""
    run, _, _, *others = _keys(row)
    published = "; published: all {:.2f}, reduced {:.2f}".format(*row.published) if row.published else ""
    return ", ".join([run, *others]) + published


def _narrow(cell: str) -> str:
    """A value with its interval in fewer letters: "0.833 [0.801, 0.861]"."""
    return cell.replace(" (", " [").replace(" to ", ", ").replace(")", "]") if " to " in cell else cell


def _markdown(shown: _Shown) -> str:
    rules = [":--"] * shown.keys + ["--:"] * (len(shown.columns) - shown.keys)
    lines = [shown.columns, rules, *([cell.replace("|", "\\|") for cell in row] for row in shown.rows)]
    return f"{shown.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(shown: _Shown) -> str:
    r"""Return a ``table`` of ``tabular`` with the rules of booktabs; the document needs ``\usepackage{booktabs}``."""
    head, *rows = (" & ".join(cell.translate(_TEX) for cell in line) + r" \\" for line in (shown.columns, *shown.rows))
    lines = "\n    ".join([r"\toprule", head, r"\midrule", *rows, r"\bottomrule"])
    return rf"""\begin{{table}}
  \caption{{{shown.caption.translate(_TEX)}}}
  \begin{{tabular}}{{{"l" * shown.keys}{"r" * (len(shown.columns) - shown.keys)}}}
    {lines}
  \end{{tabular}}
\end{{table}}
"""


_TEX = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": "$<$",
        ">": "$>$",
        "−": "$-$",
        "±": r"$\pm$",
        "–": "--",
        "\N{NO-BREAK SPACE}": "~",
    }
)
