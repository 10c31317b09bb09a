"""Plugins: found by entry point, loaded on first use, checked. Each is isolated from the others."""

from __future__ import annotations

from ctkit.plugins.distributions import missing_extra
from ctkit.plugins.loading import Source, imported, load_target, member, source_of
from ctkit.plugins.registry import DISABLE, KINDS, Entry, Registry, in_file, load

__all__ = [
    "DISABLE", "KINDS", "Entry", "Registry", "Source", "imported", "in_file", "load", "load_target", "member",
    "missing_extra", "source_of",
]  # fmt: skip
