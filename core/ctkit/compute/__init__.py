"""Work in other processes, which may die: worker pool, pool of processes for devices, and which devices there are."""

from __future__ import annotations

from ctkit.compute.child import Cause, start_child
from ctkit.compute.device_pool import Call, Coroutine, DevicePool, Wait
from ctkit.compute.devices import Jobs
from ctkit.compute.pool import Backend, Done, Lost, Workers, attempt_alone, usable_cores
from ctkit.compute.workers import started_early

__all__ = [
    "Backend", "Call", "Cause", "Coroutine", "DevicePool", "Done", "Jobs", "Lost", "Wait", "Workers", "attempt_alone",
    "start_child", "started_early", "usable_cores",
]  # fmt: skip
