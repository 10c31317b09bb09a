"""Worker processes that start while this one imports the rest of ctkit, where a run is new and has work for them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from ctkit import compute

_MOST = 4  # all else start when they are needed
_IMPORTS = "ctkit.stages.scan, ctkit.stages.describe"  # what the first stages need


def early_workers(out: Path | None, file: Path | None = None) -> AbstractContextManager[None]:
    """Start workers for a run into a new folder, by its pipeline file. What is wrong with that is said later."""
    document: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        document = tomllib.loads(file.read_text(encoding="utf-8-sig")) if file else {}
    run, settings = (table if isinstance(table := document.get(name), Mapping) else {} for name in ("run", "compute"))
    folder = Path(str(out or run.get("out") or f"runs/{run.get('name')}"))
    if folder.exists() or settings.get("backend") == "dask":
        return nullcontext()
    workers = settings.get("workers")
    count = min(workers if isinstance(workers, int) else _MOST, _MOST, os.cpu_count() or 1)
    return compute.started_early(max(0, count), _IMPORTS)
