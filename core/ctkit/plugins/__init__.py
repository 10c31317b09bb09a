"""Plugins: found by entry point, loaded on first use, checked. Each is isolated from the others."""

from __future__ import annotations

from ctkit.loading import Source, imported, load_target
from ctkit.plugins.distributions import missing_extra
from ctkit.plugins.registry import DISABLE, KINDS, Entry, Registry, in_file, load

__all__ = [
    "DISABLE", "KINDS", "Entry", "Registry", "Source", "imported", "in_file", "load", "load_target", "missing_extra",
]  # fmt: skip
