"""``ctkit reduce``: choose slices without a pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from ctkit.cli import table
from ctkit.cli.completion import plugins_of
from ctkit.cli.early_workers import early_workers
from ctkit.cli.options import output_options
from ctkit.contracts import SliceFormat
from ctkit.errors import ConfigError, CtkitError, RequestError

if TYPE_CHECKING:
    from ctkit.console import Console

_OPTIONS = {  #: by the place that a mistake begins with
    "dataset.root: ": "SOURCE: ",
    "dataset.use: ": "--dataset: ",
    "dataset.": "-d ",
    "reduce[0].use: ": "--reducer: ",
    "reduce[0].": "-p ",
    "reduce[0]: ": "--reducer: ",
}


@click.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option(
    "--dataset",
    "dataset",
    required=True,
    metavar="NAME",
    shell_complete=plugins_of("dataset"),
    help="Data set plugin that reads SOURCE.",
)
@click.option(
    "--reducer", "reducer", required=True, metavar="NAME", shell_complete=plugins_of("reducer"), help="Reducer plugin."
)
@click.option("-p", "parameters", multiple=True, metavar="KEY=VALUE", help="Parameter, scope or keep of the reducer.")
@click.option("-d", "dataset_parameters", multiple=True, metavar="KEY=VALUE", help="Parameter of the data set.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the selection and its report.")
@click.option("--seed", type=int, default=42, show_default=True, help="Seed of reducers with a random choice.")
@click.option("--curve", "with_curve", is_flag=True, help="Also print how many slices each threshold would keep.")
@click.option(
    "--export",
    "form",
    type=click.Choice(get_args(SliceFormat)),
    help="Also export the kept slices, to OUT/slices-FORMAT.",
)
@output_options
def reduce(
    source: Path | None,
    dataset: str,
    reducer: str,
    parameters: tuple[str, ...],
    dataset_parameters: tuple[str, ...],
    out: Path,
    seed: int,
    with_curve: bool,
    form: SliceFormat | None,
    console: Console,
) -> None:
    """Choose slices of SOURCE without a pipeline file: the selection and a report go to --out."""
    click.get_current_context().with_resource(early_workers(out))
    from ctkit.runner import pipeline_text, studies

    curve = _of_a_plugin("curve", "--curve", "ctkit-reports") if with_curve else None
    export = _of_a_plugin("export-slices", "--export", "ctkit-exporters") if form else None
    try:
        found = studies.reduce(
            source,
            dataset=dataset,
            reducer=reducer,
            out=out,
            seed=seed,
            curve=with_curve,
            dataset_parameters=pipeline_text.parameters(dataset_parameters, "-d"),
            reducer_parameters=pipeline_text.parameters(parameters, "-p"),
            exportable=form,
            console=console,
        )
    except ConfigError as error:
        raise ConfigError(*map(_by_option, error.mistakes)) from error
    run, context = found.run.path, click.get_current_context()
    try:
        if curve:
            context.invoke(curve, run=run, arm=found.arm, console=console)
        if export:
            context.invoke(export, run=run, arm=found.arm, form=form, out=run / f"slices-{form}", console=console)
    except RequestError as error:  # its exit code says that nothing was started
        raise CtkitError(str(error)) from error


def _by_option(mistake: str) -> str:
    """A mistake, said of the option that it is in, and not of a place in a pipeline file."""
    text = mistake.removeprefix("ctkit reduce: ")
    place = next((place for place in _OPTIONS if text.startswith(place)), "")
    return _OPTIONS.get(place, "") + text.removeprefix(place)


def _of_a_plugin(name: str, option: str, plugin: str) -> click.Command:
    """Load the command that an option stands for. Raises ``RequestError`` where its plugin is not there."""
    command = table.find(name)
    if command is None:
        raise RequestError(
            f"{option} needs `ctkit {name}` of the plugin {plugin}, which is missing: install it, or remove it from "
            "CTKIT_DISABLE_PLUGINS"
        )
    return command
