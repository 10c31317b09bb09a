"""The commands ``ctkit report``, ``compare``, ``curve`` and ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import numpy as np

from ctkit import complete_arms, output_options
from ctkit_reports.across import Format
from ctkit_reports.wording import percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctkit import Console, CurveRow

_STRAIGHT = 0.02  # of the slices


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Rebuild report.html from the files in the folder RUN."""
    from ctkit_reports.page import write_report

    click.echo(f"report: {write_report(run)}")


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN [RUN ...]")
@click.option("--metric", help="Metric to show; default: AUC of classes, Dice of masks.")
@click.option("--format", "form", type=click.Choice(get_args(Format)), default="terminal", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write the table to.")
def compare(runs: tuple[Path, ...], metric: str | None, form: Format, out: Path | None) -> None:
    """Print one table of the scores of all RUNs: slices kept, cost of pre-training, differences.

    Differences are from the reference of each run, and from the random arm of the same size where there is one; p
    values are adjusted (Holm) within their run.
    """
    from ctkit.files import write_text
    from ctkit_reports.across import across, render, without_rows

    rows = across(runs, metric)
    for name in without_rows(runs, rows):
        click.echo(f"{name} has no score by {metric} and is skipped", err=True)
    table = render(rows, form)
    if out is None:
        click.echo(table, nl=False)
        return
    write_text(out, table)
    click.echo(f"table: {out}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arm", shell_complete=complete_arms)
@output_options
def curve(run: Path, arm: str, console: Console) -> None:
    """Print how many slices other thresholds of ARM in the folder RUN would keep; plot it and show it in the report.

    The thresholds printed are the arm's own and those where the curve bends; --json prints all.
    """
    from ctkit import CurveRow, open_run
    from ctkit_reports.page import write_curve_plot, write_report

    found = open_run(run)
    with found.revisit(arm, console) as opened:
        curve = opened.write_curve()
        plot = write_curve_plot(run, arm)
        if found.folder.report.exists():
            write_report(run)
    shown = curve if console.as_json else bends(curve, opened.selection.at[-1])
    rows = curve if console.as_json else [(f"{row.at:g}", row.kept, percent(row.share)) for row in shown]
    console.table(CurveRow._fields, rows)
    if len(shown) < len(curve):
        console.say(
            f"{len(shown)} of {len(curve)} thresholds, where the curve bends; all: {found.folder.arm(arm).curve}"
        )
    console.say(f"plot: {plot}")


def bends(curve: Sequence[CurveRow], at: float) -> list[CurveRow]:
    """The rows between which a straight line misses no other row by more than 2 % of the slices; and the row ``at``."""
    shown = {0, len(curve) - 1} | {place for place, row in enumerate(curve) if row.at == at}
    while True:
        places = sorted(shown)
        lines = np.interp([row.at for row in curve], [curve[n].at for n in places], [curve[n].share for n in places])
        missed = np.abs(lines - [row.share for row in curve])
        if missed.max() <= _STRAIGHT:
            return [curve[place] for place in places]
        shown.add(int(missed.argmax()))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arm", shell_complete=complete_arms)
@output_options
def explain(run: Path, arm: str, console: Console) -> None:
    """Write explain.html, a page with pictures of what ARM of the folder RUN keeps and drops, into the arm's folder."""
    from ctkit import open_run
    from ctkit_reports.explaining import explain as gather
    from ctkit_reports.explanation import write_explanation

    with open_run(run).revisit(arm, console) as opened:
        page = opened.folder.explanation
        write_explanation(page, gather(opened))
    console.say(f"explanation: {page}")
