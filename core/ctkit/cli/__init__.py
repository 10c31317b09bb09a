"""The ``ctkit`` command: a table of commands that are loaded on use. Plugins add theirs."""

from __future__ import annotations

from ctkit.cli.program import main

__all__ = ["main"]
