"""Public data sets fetched without a browser: ``ctkit get``."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_commands() -> Sequence[Spec]:
    """Announce the command; its module is imported when it is called."""
    return [Spec("get", "Download the public data set NAME into the folder --out.", "ctkit_downloads.commands:get")]
