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


def early_workers(file: Path, out: Path | None) -> AbstractContextManager[None]:
    """Start workers for the pipeline ``file``, of which others say what is wrong with it."""
    document: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    run, settings = (table if isinstance(table := document.get(name), Mapping) else {} for name in ("run", "compute"))
    folder = out or run.get("out") or f"runs/{run.get('name')}"
    return (
        nullcontext() if settings.get("backend") == "dask" else workers_for(Path(str(folder)), settings.get("workers"))
    )


def workers_for(folder: Path, workers: object = None) -> AbstractContextManager[None]:
    """Start workers for a run, unless its folder is there: then its results may be cached."""
    count = min(workers if isinstance(workers, int) else _MOST, _MOST, os.cpu_count() or 1)
    return nullcontext() if folder.exists() else compute.started_early(max(0, count), _IMPORTS)
