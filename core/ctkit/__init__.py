"""ctkit: contrastive pre-training on CT with less, but better chosen data. The core knows no torch."""

from __future__ import annotations

from typing import Any

from ctkit import hookspecs

__version__ = hookspecs.VERSION


def __getattr__(name: str) -> Any:  # the public names arrive on use, so that `import ctkit` is light
    if name == "main":
        from ctkit.cli import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
