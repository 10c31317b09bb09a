"""The runs in a folder at a glance: how each stands, how old it is and how much room it takes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ctkit.errors import RequestError
from ctkit.storage import RunFolder, read_provenance


@dataclass(frozen=True)
class Listed:
    """One run folder."""

    path: Path
    state: str
    started: float  #: seconds since 1970
    size: int  #: bytes; files that the cache holds as well count here too

    @property
    def age(self) -> float:
        """Seconds since it was started last."""
        return time.time() - self.started


def runs_in(folder: Path) -> list[Listed]:
    """List the run folders in ``folder``, or ``folder`` itself where it is one, the youngest first.

    Raises ``RequestError`` where there is no such folder.
    """
    if not folder.is_dir():
        raise RequestError(f"there is no folder {folder}; runs are in runs/ of the folder where they were started")
    candidates = [folder] if RunFolder(folder).provenance.is_file() else sorted(folder.iterdir())
    return sorted(filter(None, map(_listed, candidates)), key=lambda run: -run.started)


def occupied(folder: Path) -> int:
    """Bytes of all files in a folder; one that goes while they are counted is none."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _listed(folder: Path) -> Listed | None:
    """How a run stands, and at what it works or stopped: ``run.json`` knows of no kill; None where there is no run."""
    facts = read_provenance(folder)
    try:
        started, state = datetime.fromisoformat(facts["started"]).timestamp(), str(facts["state"])
        if state == "running" and not RunFolder(folder).is_live:
            state = "killed"
        if (at := facts.get("at")) and state in ("running", "killed", "interrupted", "failed"):
            state = f"{state} at {at['stage']} {at['item']}".rstrip()
    except (KeyError, TypeError, ValueError):  # no run.json, or none of ctkit's
        return None
    return Listed(folder, state, started, occupied(folder))
