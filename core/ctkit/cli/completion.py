"""What the shell offers after Tab, beside commands, options and files: names of plugins, arms and runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def plugins_of(kind: str | None = None) -> Complete:
    """Offer plugins of a kind; None: kinds and all plugins, and after a kind those of it."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from ctkit import plugins

        given = context.params.get("words") or ()
        wanted = (kind,) if kind else given[:1] or plugins.KINDS
        names = [entry.name for one in wanted for entry in plugins.load().of_kind(one)]
        return [name for name in (*(() if kind or given else plugins.KINDS), *names) if name.startswith(begun)]

    return complete


def complete_arms(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Offer the arms of the run folder that an earlier argument names."""
    from ctkit.storage import read_provenance

    pipeline = read_provenance(Path(context.params.get("run") or "")).get("pipeline", {})
    return [arm["id"] for arm in pipeline.get("reduce", []) if arm["id"].startswith(begun)]


def runs(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Offer the runs in the folder that an earlier argument names, or in ``runs``."""
    folder = Path(context.params.get("folder") or "runs")
    return sorted(path.parent.name for path in folder.glob(f"{begun}*/run.json"))
