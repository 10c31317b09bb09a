"""The ``ctkit`` command: a table of commands that are loaded on use. Plugins add theirs."""

from __future__ import annotations

from ctkit.cli.completion import complete_arms
from ctkit.cli.options import output_options
from ctkit.cli.program import main

__all__ = ["complete_arms", "main", "output_options"]
