"""Plugins: found by entry point, loaded on first use, checked. Each is isolated from the others."""

from __future__ import annotations

from ctkit.plugins.distributions import missing_extra
from ctkit.plugins.registry import DISABLE, KINDS, Entry, Registry, imported, load, load_target

__all__ = ["DISABLE", "KINDS", "Entry", "Registry", "imported", "load", "load_target", "missing_extra"]
