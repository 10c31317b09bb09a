"""The options by which a command is told how to print and log, the same for every command, of plugins too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TextIO

import click

from ctkit.console import Console

_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option(
        *("-v", "--verbose"), count=True,
        help="Print messages of plugins too; -vv: also debug messages, which may name files and patients.",
    ),
    click.option("--log-json", is_flag=True, help="Log to run.jsonl, one JSON object per line, instead of run.log."),
)  # fmt: skip


def json_output() -> TextIO | None:
    """Where a command writes JSON, and nobody else anything; None for standard output."""
    output: TextIO | None = (click.get_current_context().obj or {}).get("output")
    return output


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--json``, ``--quiet``, ``--verbose`` and ``--log-json`` to a command, and pass it a ``console`` for them.

    It stands below click's own decorators. A command that invokes another one may pass its console on.
    """

    @wraps(command)
    def with_console(
        *, as_json: bool, quiet: bool, verbose: int, log_json: bool, console: Console | None = None, **others: Any
    ) -> None:
        if console is None:
            debug = (click.get_current_context().obj or {}).get("debug", False)
            verbosity = 2 if debug else verbose
            console = Console(
                as_json=as_json, quiet=quiet, verbosity=verbosity, log_json=log_json, output=json_output()
            )
        command(console=console, **others)

    for option in reversed(_OPTIONS):
        with_console = option(with_console)
    return with_console
