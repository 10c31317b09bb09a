"""Exporters: what a run has chosen and trained, for use elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_commands() -> Sequence[Spec]:
    """Announce the commands; their modules are imported when they are called."""
    backbones = "Export the backbones of the folder RUN for use without ctkit: all, or those of an arm,"
    slices = "Export the slices that ARM of the folder RUN keeps; a stopped export resumes."
    return [
        Spec("export", f"{backbones} a pre-training, a seed.", "ctkit_exporters.commands:export", requires="train"),
        Spec("export-slices", slices, "ctkit_exporters.commands:export_slices"),
    ]
