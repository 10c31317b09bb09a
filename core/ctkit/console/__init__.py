"""What a person sees of a run: console and log, progress, numbers in words, and what is redacted from all of it."""

from __future__ import annotations

from ctkit.console.output import Console, aligned
from ctkit.console.progress import Progress, hours
from ctkit.console.quantities import count, percent, size
from ctkit.console.redaction import redacted, without_paths

__all__ = [
    "Console", "Progress", "aligned", "count", "hours", "percent", "redacted", "size", "without_paths",
]  # fmt: skip
