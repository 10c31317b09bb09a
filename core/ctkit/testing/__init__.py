"""Conformance checks for plugin authors: each tries one plugin against everything its contract promises.

``ctkit check-plugin NAME`` and ``ctkit check-plugin FILE.py`` run them. In your own tests, each is a case of pytest;
every built-in plugin passes the same checks::

    from ctkit.testing import Check, checks_of, parametrize_with_checks

    @parametrize_with_checks(EveryKth, checks_of(EveryKth, EveryKthParams(offset=2)))
    def test_it_keeps_the_contract(check: Check) -> None:
        check()

A check that fails raises ``NonConformance``, which says what must be, what was found, and what to do. ``check_reducer``
and its like call all checks of a plugin, and raise the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctkit.contracts import BASES, Dataset, Method, Params, Plugin, Protocol, Reducer, Task, Tracker
from ctkit.hookspecs import Kind
from ctkit.testing.announcements import check_distribution, check_spec
from ctkit.testing.datasets import DatasetChecks
from ctkit.testing.methods import MethodChecks
from ctkit.testing.plugins import Check, Checks, NonConformance
from ctkit.testing.protocols import ProtocolChecks
from ctkit.testing.reducers import ReducerChecks
from ctkit.testing.tasks import TaskChecks
from ctkit.testing.trackers import TrackerChecks

if TYPE_CHECKING:
    import pytest

__all__ = [
    "Check", "NonConformance", "check_dataset", "check_distribution", "check_method", "check_protocol",
    "check_reducer", "check_spec", "check_task", "check_tracker", "checks_of", "parametrize_with_checks",
]  # fmt: skip

_OF: dict[Kind, type[Checks[Any]]] = {
    "dataset": DatasetChecks,
    "reducer": ReducerChecks,
    "method": MethodChecks,
    "task": TaskChecks,
    "tracker": TrackerChecks,
    "protocol": ProtocolChecks,
}


def checks_of(plugin: type[Plugin[Any]], params: Params | None = None, **options: Any) -> list[Check]:
    """Return the checks of a plugin class, in their order; ``options`` are those of ``check_reducer`` and its like.

    Checks of one call share what is costly, such as a training. Raises ``NonConformance`` where the class is of no
    kind.
    """
    kinds = [kind for kind, base in BASES.items() if isinstance(plugin, type) and issubclass(plugin, base)]
    if not kinds:
        raise NonConformance(f"{plugin!r} must be a subclass of one of the classes in ctkit.contracts; derive from one")
    return list(_OF[kinds[0]](plugin, params, **options))


def parametrize_with_checks(*plugins: type[Plugin[Any]] | Sequence[Check]) -> pytest.MarkDecorator:
    """Make a test with the argument ``check`` a case for each check of plugin classes, or of what ``checks_of`` gives.

    As ``parametrize_with_checks`` of scikit-learn.
    """
    import pytest

    several = [checks_of(one) if isinstance(one, type) else one for one in plugins]
    cases = [pytest.param(check, id=f"{check.plugin}-{check.name}") for checks in several for check in checks]
    return pytest.mark.parametrize("check", cases)


def check_dataset(plugin: type[Dataset[Any]], params: Params | None = None, *, volumes: int = 2) -> None:
    """Check a dataset on the data its parameters name; the pixels of the first ``volumes`` volumes are read.

    Raises ``NonConformance`` for the first promise that is broken.
    """
    DatasetChecks(plugin, params, volumes=volumes).all()


def check_reducer(plugin: type[Reducer[Any]], params: Params | None = None, *, within_knob: bool = True) -> None:
    """Check a reducer on small synthetic volumes, among them single, constant and repeated slices.

    ``within_knob``: a dropped slice is at most the knob away from the one that stands for it, as in every reducer
    that drops near-duplicates. Pass False where that slice may be farther away, such as at the end of a chain.

    Raises ``NonConformance`` for the first promise that is broken.
    """
    ReducerChecks(plugin, params, within_knob=within_knob).all()


def check_method(plugin: type[Method[Any]], params: Params | None = None) -> None:
    """Check a method by short trainings on 16 random slices of 32 pixels, on the CPU.

    Pass parameters that make it quick: a small trunk and four to ten steps; with checkpoints at every chance, so that
    going on after an interruption is tried too. One that takes no step must only keep to its seed. Raises
    ``NonConformance`` for the first promise that is broken.
    """
    MethodChecks(plugin, params).all()


def check_task(plugin: type[Task[Any]], params: Params | None = None) -> None:
    """Check a task on the data its parameters name; of each part up to 16 images are looked at, the first and the last.

    Raises ``NonConformance`` for the first promise that is broken.
    """
    TaskChecks(plugin, params).all()


def check_protocol(plugin: type[Protocol[Any]], params: Params | None = None) -> None:
    """Check a protocol on 56 small images of two classes, with an untrained ResNet-18, on the CPU.

    Pass parameters that make it quick. Raises ``NonConformance`` for the first promise that is broken.
    """
    ProtocolChecks(plugin, params).all()


def check_tracker(plugin: type[Tracker[Any]], params: Params | None = None) -> None:
    """Check a tracker by three runs in one process: one that ends well, one that fails, one that fails at once.

    Pass parameters by which nothing leaves the machine. Raises ``NonConformance`` for the first promise that is broken.
    """
    TrackerChecks(plugin, params).all()
