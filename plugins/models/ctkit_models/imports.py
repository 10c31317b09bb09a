"""Importing Lightning in less time; without torch itself, so that it can be said before torch is imported."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def without_matplotlib() -> Iterator[None]:
    """Have torchmetrics, which Lightning imports, find no matplotlib: nothing here plots, and its import takes time."""
    from lightning_utilities.core.imports import RequirementCache

    found = RequirementCache.__bool__

    def answer(self: RequirementCache) -> bool:
        return self.requirement != "matplotlib" and found(self)

    RequirementCache.__bool__ = answer  # type: ignore[method-assign]  # it is asked in passing, by a module on import
    try:
        yield
    finally:
        RequirementCache.__bool__ = found  # type: ignore[method-assign]  # likewise


class Importing(partial[Any]):
    """A ``partial`` for a child process, whose function imports Lightning there."""

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        import cloudpickle  # type: ignore[import-untyped]  # ships no types

        return _imported, (cloudpickle.dumps(partial(self.func, *self.args)),)


def _imported(work: bytes) -> Any:
    with without_matplotlib():
        return pickle.loads(work)  # noqa: S301  # from our own parent
