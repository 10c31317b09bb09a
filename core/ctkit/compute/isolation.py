"""A suspect's second chance: a process for this item only, watched from outside."""

from __future__ import annotations

from ctkit.compute import worker
from ctkit.compute.child import LocalProcess

#: Seconds a new process may take to import what the work needs.
_START = 120.0


def attempt(work: bytes, item: bytes, time_limit: float) -> worker.Outcome:
    """Do pickled ``work`` on a pickled item in a process of its own; a ``Suspect`` has the reason of its end."""
    child = LocalProcess("the process that worked on it", work, item, worker.ONE_THREAD)
    try:
        outcome = child.outcome(time_limit) if child.is_ready(_START) else None
        return outcome or worker.Suspect(child.death or f"took longer than {time_limit:g} s")
    finally:
        child.kill()
