"""``ctkit validate``, ``init`` and ``schema``: pipeline files before they are run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctkit.cli.completion import plugins_of
from ctkit.cli.options import json_output
from ctkit.errors import CtkitError, RequestError

if TYPE_CHECKING:
    from ctkit.hookspecs import Kind


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key: dataset.size=128.")
def validate(file: Path, overrides: tuple[str, ...]) -> None:
    """Check a pipeline FILE without running it.

    It also checks that the data, weights and folders exist.
    """
    from ctkit import plugins, runner
    from ctkit.console import Console, count
    from ctkit.runner import pipeline_text, studies

    registry = plugins.load()
    resolved = pipeline_text.load(file, registry, overrides)
    studies.warn_of_broken(registry, Console())
    runner.check_file(resolved, registry, runner.run_folder(resolved))
    for said in (runner.missing_packages(resolved), *runner.unwritable(runner.run_folder(resolved))):
        if said:
            Console().warn(said)
    parts = (
        count(len(resolved.arms), "arm"),
        count(len(resolved.pretrains), "pre-training"),
        count(len(resolved.baselines), "baseline"),
        count(len(resolved.tasks), "evaluation"),
        count(len(resolved.seeds), "seed"),
    )
    click.echo(f"{file}: valid ({', '.join(parts)})")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default="pipeline.toml")
@click.option("--name", help="Name of the run.")
@click.option("--dataset", shell_complete=plugins_of("dataset"), help="Data set plugin, such as lidc-idri.")
@click.option("--root", help="Folder of the data set.")
@click.option(
    "--reducer",
    "reducers",
    multiple=True,
    shell_complete=plugins_of("reducer"),
    help="Reducer of an arm; may be repeated.",
)
@click.option("--method", shell_complete=plugins_of("method"), help='Pre-training method; "" for no pre-training.')
@click.option("--task", shell_complete=plugins_of("task"), help='Task to score on; "" for no scoring.')
@click.option("--task-root", help="Folder of the task's images.")
@click.option("--protocol", "protocols", multiple=True, default=("linear", "knn"), show_default=True)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def init(
    file: Path,
    name: str | None,
    dataset: str | None,
    root: str | None,
    reducers: tuple[str, ...],
    method: str | None,
    task: str | None,
    task_root: str | None,
    protocols: tuple[str, ...],
    force: bool,
) -> None:
    """Write a commented pipeline FILE; on a terminal, ask for values that no option gives."""
    from ctkit import plugins
    from ctkit.cli import first_file
    from ctkit.files import write_text

    if file.exists() and not force:
        raise RequestError(f"{file} exists; give another name, or --force to replace it")
    registry = plugins.load()

    def asked(kind: Kind, question: str, given: str | None, default: str) -> str:
        return _asked(question, given, default, partial(first_file.known, registry, kind))

    def asked_root(kind: Kind, plugin: str, question: str, given: str | None) -> str:
        return _asked(question, given, "data") if plugin and first_file.has_root(registry, kind, plugin) else ""

    name = _asked("Name of the run", name, "first")
    dataset = asked("dataset", "Data set (see: ctkit list-plugins)", dataset, "phantom")
    root = asked_root("dataset", dataset, "Folder of the scans", root)
    arms = " ".join(reducers) or asked("reducer", "Arms, separated by spaces", None, "all every-n hash random")
    method = asked("method", "Pre-training method, or none", method, "simclr")
    task = asked("task", "Task to score on, or none", task, "phantom-regions") if method else ""
    task_root = asked_root("task", task, "Folder of the task's images", task_root)
    wishes = first_file.Wishes(name, dataset, root, arms.split(), method, task, task_root, protocols)
    write_text(file, first_file.first_file(wishes, registry))
    click.echo(f"{file} written; next: ctkit validate {file}")


def _asked(question: str, given: str | None, default: str, check: Callable[[str], str] = str) -> str:
    """What was given, or what a person answers until ``check`` raises nothing; the default where there is no person."""
    if given is not None or not sys.stdin.isatty():
        return default if given is None else given

    def checked(answer: str) -> str:
        try:
            return check(answer)
        except CtkitError as error:
            raise click.UsageError(str(error)) from error  # click says so and asks again

    return str(click.prompt(question, default=default, value_proc=checked))


@click.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files with every installed plugin, for editors."""
    from ctkit import plugins
    from ctkit.cli.schema import pipeline_schema

    click.echo(json.dumps(pipeline_schema(plugins.load()), indent=2), file=json_output())
