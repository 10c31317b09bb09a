"""``ctkit run``: a pipeline from its file to its results, or what that would do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ctkit.cli.early_workers import early_workers
from ctkit.cli.messages import say_outcome, warn_of_broken
from ctkit.cli.options import output_options
from ctkit.hookspecs import STAGES, Stage

if TYPE_CHECKING:
    from ctkit.console import Console
    from ctkit.plugins import Registry
    from ctkit.session import Only


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
@click.option("--dry-run", is_flag=True, help="Print what would be done and what is cached already; do nothing.")
@output_options
def run(
    file: Path,
    until: Stage,
    overrides: tuple[str, ...],
    out: Path | None,
    parts: tuple[str, ...],
    jobs: int | Literal["auto"],
    dry_run: bool,
    console: Console,
) -> None:
    """Run a pipeline FILE. Finished results of earlier runs are reused.

    --only arm=hash6 may be given several times. Several names of one key are all run; several keys must all match.
    """
    if not dry_run:
        click.get_current_context().with_resource(early_workers(file, out))
    from ctkit import plugins, runner
    from ctkit.runner import pipeline_text
    from ctkit.session import parse

    registry = plugins.load()
    extra = (f"run.out={json.dumps(str(out.absolute()), ensure_ascii=False)}",) if out else ()
    resolved = pipeline_text.load(file, registry, (*overrides, *extra))
    only = parse(parts, resolved)
    warn_of_broken(registry, console)
    if dry_run:
        _print_plan(resolved, registry, console, until, only, jobs)
        return
    folder = runner.run(resolved, registry, console, until, only, jobs)
    say_outcome(folder.path, console)


def _print_plan(
    resolved: Any, registry: Registry, console: Console, until: Stage, only: Only, jobs: int | Literal["auto"]
) -> None:
    from ctkit import runner
    from ctkit.runner import check_start, dry_run, unwritable
    from ctkit.session import open_session

    folder = runner.run_folder(resolved)
    session = replace(open_session(resolved, registry, console, folder, jobs, looking=True), only=only)
    check_start(session, until)
    for text in unwritable(folder):
        console.warn(text)
    if console.as_json:
        rows = [(line.stage, line.item, line.state, line.detail) for line in dry_run.plan(session)]
        console.table(("stage", "item", "state", "detail"), rows)
    else:
        console.table(("plan", "state", "detail"), list(dry_run.tree(dry_run.plan(session))))
