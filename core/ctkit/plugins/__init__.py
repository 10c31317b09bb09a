"""Plugins: found by entry point, loaded on first use, checked, described. Each is isolated from the others."""

from __future__ import annotations

from ctkit.plugins.description import describe_plugin
from ctkit.plugins.registry import DISABLE, KINDS, Entry, Registry, load, load_target

__all__ = ["DISABLE", "KINDS", "Entry", "Registry", "describe_plugin", "load", "load_target"]
