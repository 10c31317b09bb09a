"""``ctkit run``: a pipeline from its file to its results, or what that would do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ctkit.cli.early_workers import early_workers
from ctkit.cli.options import output_options
from ctkit.hookspecs import STAGES, Stage

if TYPE_CHECKING:
    from ctkit.console import Console


def parse_jobs(text: str) -> int | Literal["auto"]:
    """Read a number of jobs, or "auto"; a usage error for anything else."""
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"must be 1, 2, ... or auto but is {text!r}")
    return int(text)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--until", type=click.Choice(STAGES), default="report", show_default=True, help="Stop after this stage.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key: dataset.size=128.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run, instead of runs/<name>.")
@click.option("--only", "parts", multiple=True, metavar="KEY=NAME", help="Run only this arm, pretrain, task or seed.")
@click.option(
    *("--jobs", "-j"),
    default="1",
    type=parse_jobs,
    metavar="N|auto",
    show_default=True,
    help="Number of simultaneous trainings or evaluations, each with its own GPUs; auto: as many as the GPUs allow.",
)
@click.option("--recompute", "anew", multiple=True, metavar="PLUGIN", help="Make all results of this plugin again.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and what is cached already; do nothing.")
@output_options
def run(
    file: Path,
    until: Stage,
    overrides: tuple[str, ...],
    out: Path | None,
    parts: tuple[str, ...],
    jobs: int | Literal["auto"],
    anew: tuple[str, ...],
    dry_run: bool,
    console: Console,
) -> None:
    """Run a pipeline FILE. Finished results of earlier runs are reused.

    --only arm=hash6 may be given several times. Several names of one key are all run; several keys must all match.
    """
    if not dry_run:
        click.get_current_context().with_resource(early_workers(out, file))
        from ctkit.runner import studies

        studies.run(
            file, changes=overrides, out=out, until=until, only=parts, jobs=jobs, recompute=anew, console=console
        )
        return
    from ctkit import plugins, runner
    from ctkit.runner import dry_run as planning
    from ctkit.runner import pipeline_text, studies
    from ctkit.session import open_session, parse

    registry = plugins.load()
    resolved = pipeline_text.load(file, registry, overrides, out)
    studies.warn_of_broken(registry, console)
    folder, only = runner.run_folder(resolved), parse(parts, resolved)
    session = replace(open_session(resolved, registry, console, folder, jobs, looking=True), only=only)
    runner.check_start(session, until)
    for text in runner.unwritable(folder):
        console.warn(text)
    if console.as_json:
        rows = [(line.stage, line.item, line.state, line.detail) for line in planning.plan(session)]
        console.table(("stage", "item", "state", "detail"), rows)
    else:
        console.table(("plan", "state", "detail"), list(planning.tree(planning.plan(session))))
