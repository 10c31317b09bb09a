"""Run by MkDocs: writes the reference of plugins from the models that validate a pipeline file."""

from __future__ import annotations

from typing import Any

from ctkit.cli.description import plugin_reference
from ctkit.plugins.registry import load


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Add the built-in plugins to their page."""
    if page.file.src_uri != "plugin-reference.md":
        return markdown
    return markdown + plugin_reference(entry for entry in load().entries if entry.distribution == "ctkit-ssl")
