"""Where a command writes what scripts read."""

from __future__ import annotations

from typing import TextIO

import click


def json_output() -> TextIO | None:
    """Where a command writes JSON, and nobody else anything; None for standard output."""
    output: TextIO | None = (click.get_current_context().obj or {}).get("output")
    return output
