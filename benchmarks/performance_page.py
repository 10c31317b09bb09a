"""The table of figures in ``docs/performance.md``: each benchmark replaces its own rows. Standard library alone."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from figures import save_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
_HEAD = "| script | measure | baseline | limit | ratio | machine |"


@dataclass(frozen=True)
class Row:
    """One measure against its baseline. ``ratio`` is a median with its range."""

    measure: str
    baseline: str
    limit: str
    ratio: str


def write(script: str, rows: list[Row], page: Path = PAGE) -> None:
    """Put the rows of a script in the place of those that it wrote before; other rows stay."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = lines.index(_HEAD) + 2
    last = next((n for n in range(first, len(lines)) if not lines[n].startswith("|")), len(lines))
    own = f"| `{script}` |"
    at = next((n for n in range(first, last) if lines[n].startswith(own)), last)
    new = [f"{own} {row.measure} | {row.baseline} | {row.limit} | {row.ratio} | {machine()} |" for row in rows]
    kept = [(n, line) for n, line in enumerate(lines) if not (first <= n < last and line.startswith(own))]
    before, after = [line for n, line in kept if n < at], [line for n, line in kept if n >= at]
    save_text(page, "\n".join([*before, *new, *after]) + "\n")


def machine() -> str:
    """Cores that may be used, processor, and system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} cores, {names[0] if names else platform.machine()}, {platform.system()}"


def ranged(values: list[float], digits: int = 1) -> str:
    """A median with its range, such as ``10.2 (9.1 to 11.0)``."""
    ordered = sorted(values)
    half = len(ordered) // 2
    median = (ordered[half] + ordered[~half]) / 2
    return f"{median:.{digits}f} ({ordered[0]:.{digits}f} to {ordered[-1]:.{digits}f})"
