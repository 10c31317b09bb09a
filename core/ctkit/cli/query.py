"""``ctkit query``: which slices of new scans are near-duplicates of what a run kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctkit.cli.completion import complete_arms, plugins_of
from ctkit.cli.options import output_options

if TYPE_CHECKING:
    from ctkit.console import Console


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--arm", shell_complete=complete_arms, help="Arm to compare with; needed if the run has several.")
@click.option("--dataset", shell_complete=plugins_of("dataset"), help="Data set plugin, instead of that of the run.")
@click.option("-d", "parameters", multiple=True, metavar="KEY=VALUE", help="Parameter of the data set.")
@click.option("--out", type=click.Path(path_type=Path), help="Write a CSV file with a row for each slice.")
@output_options
def query(
    run: Path,
    folder: Path | None,
    arm: str | None,
    dataset: str | None,
    parameters: tuple[str, ...],
    out: Path | None,
    console: Console,
) -> None:
    """Find slices of the scans in FOLDER that are near-duplicates of what the run RUN keeps.

    Only the new scans are read. The arm must compare slices by a row of evidence each: hash, embedding or k-center.
    """
    from ctkit.console import count, percent
    from ctkit.runner import pipeline_text
    from ctkit.runner import query as queries

    given = pipeline_text.parameters(parameters, "-d")
    found = queries.query(run, folder, arm=arm, dataset=dataset, dataset_parameters=given, console=console)
    if out:
        found.write(out)
    if console.as_json:
        console.table(queries.QueryRow._fields, found.rows)
        return
    new = found.compared - found.duplicates
    console.say(
        f"{count(found.compared, 'slice')} compared with what {found.arm} keeps, near-duplicates up to"
        f" {found.threshold:g} {found.unit}"
    )
    console.say(f"{found.duplicates} ({percent(found.duplicates / found.compared)}) are near-duplicates, {new} are new")
    for reason, number in Counter(row.reason for row in found.rows if row.reason).most_common():
        console.say(f"{number} left out: {reason}")
    if out:
        console.say(f"rows: {out}")
