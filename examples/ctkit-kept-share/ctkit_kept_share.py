"""``ctkit kept RUN``, the share of slices that each arm of a run keeps: a complete ctkit command in one module."""

import json
from pathlib import Path

import click

from ctkit.hookspecs import Spec, hookimpl


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
def kept(run: Path) -> None:
    """Print the share of slices that each arm of the folder RUN keeps."""
    for arm in (json.loads(file.read_text()) for file in sorted(run.glob("arms/*/arm.json"))):
        click.echo(f"{arm['kept'] / arm['slices']:7.2%}  {arm['arm']}")


@hookimpl
def ctkit_register_commands() -> list[Spec]:
    """Register the command."""
    return [Spec("kept", "Print the share of slices that each arm of the folder RUN keeps.", "ctkit_kept_share:kept")]
