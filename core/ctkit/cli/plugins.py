"""``ctkit list-plugins`` and ``describe``: what is installed, and what each can be told."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ctkit.cli.completion import plugins_of
from ctkit.cli.options import json_output
from ctkit.cli.table import listed
from ctkit.console import aligned
from ctkit.errors import CtkitError, PluginError, RequestError, nearest
from ctkit.hookspecs import Kind

if TYPE_CHECKING:
    from ctkit.plugins import Entry

KINDS = get_args(Kind)
LISTED = (*KINDS, "command", "output", "listener")  #: what list-plugins shows; the last three have nothing to describe


@click.command("list-plugins")
@click.option("--kind", type=click.Choice(LISTED), help="Only this kind.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Also the plugins in this .py file, or that a pipeline file names.",
)
@click.option("--check", is_flag=True, help="Load every plugin; the exit code is 1 if one is broken.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of objects.")
def list_plugins(kind: str | None, file: Path | None, check: bool, as_json: bool) -> None:
    """List every installed plugin, and the error of each broken one."""
    from ctkit import plugins

    entries = [*plugins.load().entries, *(_of_file(file) if file else ())]
    entries = [_checked(entry) for entry in entries] if check else entries
    entries.sort(key=lambda e: ([*LISTED, e.kind].index(e.kind), e.name, e.distribution))
    shown = [entry for entry in entries if kind is None or entry.kind in (kind, "unknown")]
    columns = ("kind", "name", "summary", "distribution", "version", "status", "error")
    if as_json:
        click.echo(
            json.dumps([{column: getattr(entry, column) for column in columns} for entry in shown], indent=2),
            file=json_output(),
        )
    else:
        for line in aligned([(e.kind, e.name, f"{e.distribution} {e.version}", listed(e)) for e in shown]):
            click.echo(line)
    if check and (broken := [entry for entry in shown if entry.status == "broken"]):
        raise CtkitError(f"{len(broken)} of {len(shown)} plugins are broken")


def _checked(entry: Entry) -> Entry:
    """The entry after its class or command was loaded, broken if that failed; not where packages are missing."""
    if entry.status == "broken" or entry.needs or entry.kind not in (*KINDS, "command"):
        return entry
    try:
        entry.load_command() if entry.kind == "command" else entry.load()
    except PluginError as error:
        return replace(entry, status="broken", error=str(error).removeprefix(f"{entry.title}: "))
    return entry


def _of_file(file: Path) -> list[Entry]:
    """The plugins in a Python file, or in the files that a pipeline file names."""
    if file.suffix == ".py":
        return in_file(str(file), Path())
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise RequestError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    found = {entry.use: entry for use in dict.fromkeys(_uses(document)) for entry in in_file(use, file.parent)}
    return list(found.values())


def _uses(table: Any) -> Iterator[str]:
    """What the tables of a document use."""
    if isinstance(table, dict):
        for key, value in table.items():
            yield from [value] if key in ("use", "protocol") and isinstance(value, str) else _uses(value)
    elif isinstance(table, list):
        for value in table:
            yield from [value] if isinstance(value, str) else _uses(value)


def in_file(use: str, base: Path) -> list[Entry]:
    """The plugins of ``file.py`` or ``file.py:Class``; none where that is no Python file."""
    from ctkit import plugins

    path, _, name = ("", "", "") if use.endswith(".py") else use.rpartition(":")
    found = use if use.endswith(".py") else path
    return plugins.in_file(base / Path(found).expanduser(), name) if found.endswith(".py") else []


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[KIND] NAME", shell_complete=plugins_of())
@click.option("--json", "as_json", is_flag=True, help="The JSON Schema of the parameters.")
def describe(words: tuple[str, ...], as_json: bool) -> None:
    """Describe the plugin NAME, or FILE.py:CLASS: what it does and its parameters, with units, bounds and defaults.

    A KIND before it (dataset, reducer, method, task, protocol or tracker) says which, where several have the name.
    """
    from ctkit.cli.description import describe_plugin

    entry = _meant(*words)
    if as_json:
        click.echo(json.dumps(entry.load().params_type.model_json_schema(), indent=2), file=json_output())
        return
    click.echo(describe_plugin(entry))


def _meant(first: str, name: str = "", *more: str) -> Entry:
    """The plugin that one name means, or a kind and a name. Raises ``RequestError`` where there is no one such."""
    from ctkit import plugins

    registry = plugins.load()
    if more or (name and first not in KINDS):
        raise RequestError(f"describe needs a kind and a name, but got {first!r} first; {nearest(first, KINDS)}")
    if name:
        return registry.find(first, name)  # type: ignore[arg-type]  # a kind
    every = [entry for entry in registry.entries if entry.kind in KINDS]
    found = in_file(first, Path()) or [entry for entry in every if first in (entry.name, entry.use)]
    if not found:
        broken = [f"{e.distribution}: {e.error}" for e in registry.entries if e.kind == "unknown"]
        hint = f"; broken plugins: {'; '.join(broken)}" if broken else ""
        raise PluginError(f"there is no plugin {first!r}; {nearest(first, {entry.name for entry in every})}{hint}")
    if len(found) > 1:
        choices = " or ".join(f"ctkit describe {entry.kind} {entry.use}" for entry in found)
        raise PluginError(f"there are {len(found)} plugins {first!r}: write {choices}")
    return found[0]
