"""``ctkit list-plugins`` and ``describe``: what is installed, and what each can be told."""

from __future__ import annotations

import json
from typing import get_args

import click

from ctkit.cli.completion import plugins_of
from ctkit.cli.options import json_output
from ctkit.cli.table import listed
from ctkit.console import aligned
from ctkit.hookspecs import Kind

KINDS = get_args(Kind)
LISTED = (*KINDS, "command", "output", "listener")  #: what list-plugins shows; the last three have nothing to describe


@click.command("list-plugins")
@click.option("--kind", type=click.Choice(LISTED), help="Only this kind.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of objects.")
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List every installed plugin, and the error of each broken one."""
    from ctkit import plugins

    entries = sorted(plugins.load().entries, key=lambda e: ([*LISTED, e.kind].index(e.kind), e.name, e.distribution))
    shown = [entry for entry in entries if kind is None or entry.kind in (kind, "unknown")]
    columns = ("kind", "name", "summary", "distribution", "version", "status", "error")
    if as_json:
        click.echo(
            json.dumps([{column: getattr(entry, column) for column in columns} for entry in shown], indent=2),
            file=json_output(),
        )
        return
    for line in aligned([(e.kind, e.name, f"{e.distribution} {e.version}", listed(e)) for e in shown]):
        click.echo(line)


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", shell_complete=plugins_of())
@click.option("--json", "as_json", is_flag=True, help="The JSON Schema of the parameters.")
def describe(kind: Kind, name: str, as_json: bool) -> None:
    """Describe the plugin NAME of a KIND: what it does and its parameters, with units, bounds and defaults."""
    from ctkit import plugins
    from ctkit.cli.description import describe_plugin

    entry = plugins.load().find(kind, name)
    if as_json:
        click.echo(json.dumps(entry.load().params_type.model_json_schema(), indent=2), file=json_output())
        return
    click.echo(describe_plugin(entry))
