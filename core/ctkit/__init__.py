"""ctkit: contrastive pre-training on CT with less, but better chosen data. The core knows no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctkit import hookspecs

if TYPE_CHECKING:
    from ctkit.cli import main
    from ctkit.cli.completion import complete_arms
    from ctkit.console import Console
    from ctkit.console.options import output_options

__all__ = ["Console", "__version__", "complete_arms", "main", "output_options"]
__version__ = hookspecs.VERSION


def __getattr__(name: str) -> Any:
    """Import what is public here when it is asked for, so that a plugin's light module costs nothing."""
    if name == "main":
        from ctkit.cli import main

        return main
    if name == "complete_arms":
        from ctkit.cli.completion import complete_arms

        return complete_arms
    if name == "Console":
        from ctkit.console import Console

        return Console
    if name == "output_options":
        from ctkit.console.options import output_options

        return output_options
    raise AttributeError(f"module 'ctkit' has no attribute {name!r}")
