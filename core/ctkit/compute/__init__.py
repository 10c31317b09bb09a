"""Work in other processes, which may die: worker pool, processes for devices, and which devices there are."""

from __future__ import annotations

from ctkit.compute.child import start_child
from ctkit.compute.devices import Jobs
from ctkit.compute.errands import Chore, Crew, Errand, Later
from ctkit.compute.pool import Backend, Done, Lost, Workers, usable_cores

__all__ = [
    "Backend", "Chore", "Crew", "Done", "Errand", "Jobs", "Later", "Lost", "Workers", "start_child", "usable_cores",
]  # fmt: skip
