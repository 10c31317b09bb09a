"""What commands that work on a pipeline say before and after: broken plugins, and how a run ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ctkit.errors import CtkitError

if TYPE_CHECKING:
    from ctkit.console import Console
    from ctkit.plugins import Registry


def warn_of_broken(registry: Registry, console: Console) -> None:
    """What is broken may be a tracker, which nothing else would miss."""
    for entry in registry.entries:
        if entry.kind == "unknown":
            console.warn(f"plugin {entry.name!r} of {entry.distribution} is broken and not used: {entry.error}")


def say_outcome(run: Path, console: Console) -> None:
    """How a run ended and where its results are. Raises ``CtkitError`` where parts of it failed."""
    from ctkit.console import count
    from ctkit.storage import RunFolder, read_provenance

    facts = read_provenance(run)
    failures = facts.get("failures", [])
    page = RunFolder(run).report
    whole = facts.get("stopped_at") is None and page.exists()
    where = f"report: {page}" if whole else f"results: {run}"
    if not failures and all(stage["cached"] for stage in facts.get("stages", [])):
        console.say(f"nothing to do, everything is up to date; {where}")
    else:
        console.say(f"{facts.get('state', 'done')}; {where}")
    if failures:
        parts = count(len(failures), "part")
        raise CtkitError(f"{parts} of the run failed, see run.json; first: {failures[0]['reason']}")


def json_output() -> TextIO | None:
    """Where a command writes JSON, and nobody else anything; None for standard output."""
    output: TextIO | None = (click.get_current_context().obj or {}).get("output")
    return output
