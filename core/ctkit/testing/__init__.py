"""Conformance checks for plugin authors: each tries one plugin against everything its contract promises.

Call them from your own tests, with the class and the parameters to try; every built-in plugin passes the same checks::

    from ctkit.testing import check_reducer

    def test_it_keeps_the_contract():
        check_reducer(EveryKth, EveryKthParams(offset=2))

A check that fails raises ``NonConformance``, which says what must be, what was found, and what to do.
"""

from __future__ import annotations

from ctkit.testing.announcements import check_distribution, check_spec
from ctkit.testing.datasets import check_dataset
from ctkit.testing.methods import check_method
from ctkit.testing.plugins import NonConformance
from ctkit.testing.protocols import check_protocol
from ctkit.testing.reducers import check_reducer
from ctkit.testing.tasks import check_task
from ctkit.testing.trackers import check_tracker

__all__ = [
    "NonConformance", "check_dataset", "check_distribution", "check_method", "check_protocol", "check_reducer",
    "check_spec", "check_task", "check_tracker",
]  # fmt: skip
