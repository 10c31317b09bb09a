"""Whether a process holds a lock file, and how long to wait for one that somebody may only be asking about."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 1.0  #: seconds; to ask is to hold the lock for an instant, which must not keep its owner from it


def is_held(lock: Path) -> bool:
    """Whether a process holds a lock file; where that cannot be told, it counts as held."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True
