"""The table of commands: the core's and those of plugins, each loaded when it is called."""

from __future__ import annotations

from typing import cast

import click
from click.shell_completion import CompletionItem

from ctkit import hookspecs, plugins
from ctkit.errors import PluginError, nearest
from ctkit.hookspecs import Spec

_SUMMARIES = {
    "testing.check_plugin:check_plugin": "Check that a plugin keeps its contract: the plugin or distribution NAME, or"
    " those in a file, PATH[:CLASS].",
    "cli.run_folders:clean": "Free space in the cache beside the runs in FOLDER, after confirmation.",
    "cli.plugins:describe": "Describe the plugin NAME, or FILE.py:CLASS: what it does and its parameters, with units,"
    " bounds and defaults.",
    "cli.pipeline_files:init": "Write a commented pipeline FILE; on a terminal, ask for values that no option gives.",
    "cli.plugins:list_plugins": "List every installed plugin, and the error of each broken one.",
    "testing.new_plugin:new_plugin": "Write a package with a working plugin of a KIND called NAME, and its tests,"
    " as a template for your own.",
    "cli.query:query": "Find slices of the scans in FOLDER that are near-duplicates of what the run RUN keeps.",
    "cli.reduce:reduce": "Choose slices of SOURCE without a pipeline file: the selection and a report go to --out.",
    "cli.run:run": "Run a pipeline FILE.",
    "cli.run_folders:runs": "List the runs in FOLDER, the newest first, with state, age and size.",
    "cli.pipeline_files:schema": "Print the JSON Schema of pipeline files with every installed plugin, for editors.",
    "cli.pipeline_files:validate": "Check a pipeline FILE without running it.",
}
_NAMES = {target.partition(":")[2].replace("_", "-"): target for target in _SUMMARIES}
COMMANDS = {name: Spec(name, _SUMMARIES[target], f"ctkit.{target}") for name, target in _NAMES.items()}


class CommandTable(click.Group):
    """A group that imports a command when it is called, and knows the nearest one to a misspelt name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        return find(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; raise a usage error with the nearest one where there is none of that name."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, and load none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(summaries().items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands with their summaries, and load none; after a dash, options."""
        found = [CompletionItem(name, help=text) for name, text in summaries().items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(hookspecs.VERSION, prog_name="ctkit", message="%(prog)s %(version)s")
def cli() -> None:
    """Contrastive pre-training on CT with less, but better chosen data.

    Add --debug to any command for the traceback behind an error.
    """


def find(name: str) -> click.Command | None:
    """Load the command that ``name`` means, which may be ``"distribution:name"``; None where there is none.

    Raises ``PluginError`` where it is broken, or two distributions claim the name.
    """
    if name in COMMANDS:
        return cast(click.Command, plugins.imported(COMMANDS[name].target))
    registry = plugins.load()
    if all(entry.name != name.rpartition(":")[2] for entry in registry.of_kind("command")):
        return None
    entry = registry.find("command", name)
    if entry.needs:
        raise PluginError(f"{entry.title}: {entry.error}")
    return entry.load_command()


def summaries() -> dict[str, str]:
    """What each command does, by the name that it is called by, in alphabetical order."""
    found = {name: spec.summary for name, spec in COMMANDS.items()}
    for entry in plugins.load().of_kind("command"):
        name = entry.name if entry.status != "clash" else entry.qualified.removeprefix("ctkit ")
        found[name] = entry.summary if entry.status == "clash" else listed(entry)
    return dict(sorted(found.items()))


def listed(entry: plugins.Entry) -> str:
    """What a list says of a plugin: its summary or its error, after its status where that is not "ok"."""
    said = entry.error if entry.status in ("broken", "clash") else entry.summary
    return said if entry.status == "ok" else f"[{entry.status}] {said}"
