"""Reducers: slices become evidence, and evidence becomes a decision on what to keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts.params import Bools, Ints, P, Params, Plugin

Scope = Literal["volume", "patient", "dataset"]  #: what one decision covers
SCOPES: frozenset[str] = frozenset(get_args(Scope))


@dataclass(frozen=True)
class Knob:
    """The number of a reducer that a budget may turn. For similarity: slices are alike when distance <= knob."""

    name: str  #: of the parameter
    unit: str
    low: float
    high: float
    integer: bool
    share: bool  #: it is the part of a group's slices that is kept, so a budget need not search for it


def knob(default: float | None, *, low: float, high: float, unit: str, description: str, share: bool = False) -> Any:
    """Mark a parameter as the reducer's knob, as pydantic's ``Field`` makes any other. A reducer has one at most.

    ``select`` gets its value as ``at``, or the one that a budget asks for. ``default`` None: a pipeline must give the
    knob or a budget::

        class LevelParams(Params):
            threshold: float | None = knob(None, low=0, high=255, unit="grey levels", description="largest difference")
    """
    budget = "required, or a budget as keep" if default is None else "or set by a budget, keep"
    mark: dict[str, Any] = {"unit": unit, "low": low, "high": high, "share": share}
    extra: dict[str, Any] = {"address": False, "knob": mark}  # its value has a place of its own in addresses
    return Field(default, ge=low, le=high, description=f"{description}, {unit}; {budget}", json_schema_extra=extra)


def knobs(params: type[Params]) -> list[Knob]:
    """Return the parameters that are marked as a knob, of which a reducer has one at most."""
    found = []
    for name, field in params.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and isinstance(mark := field.json_schema_extra.get("knob"), dict):
            integer = int in (field.annotation, *get_args(field.annotation))
            found.append(Knob(name, integer=integer, **cast(dict[str, Any], mark)))
    return found


def knob_of(params: type[Params]) -> Knob | None:
    """Return the knob among a reducer's parameters, None where there is none."""
    return next(iter(knobs(params)), None)


@dataclass(frozen=True)
class Slices:
    """What ``describe`` sees: the readable slices of one volume, in order; read-only, for others see them too."""

    grey: NDArray[np.uint8]  #: (n, rows, columns) evidence rendering: each slice's minimum..maximum to 0..255
    hu: NDArray[np.int16] | None  #: (n, rows, columns) Hounsfield units; None where the source has none
    index: Ints  #: (n,) numbers in the volume
    device: str = "cpu"  #: where an accelerator reducer may work: "cpu" or "cuda"
    at: float | None = None  #: the knob where only this value will be asked for, see ``Reducer.describes_at``


@dataclass(frozen=True)
class Group:
    """What one decision covers: the slices of a volume, a patient or the data set, in order. Never pixels."""

    volume: Ints  #: (n,) number of each slice's volume
    index: Ints  #: (n,) number of each slice in its volume
    evidence: NDArray[Any] | None  #: (n, ...) for evidence "slice"; condensed (n (n - 1) / 2,) for "pair"; or None

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Decision:
    """Slices of a group to keep, and the kept slice that represents each dropped one.

    >>> kept, by = np.array([True, False, False]), np.array([-1, 0, 0])  # slice 0 represents both others
    >>> decision = Decision(kept, by, distance=np.array([np.nan, 2, 5], np.float32))
    """

    kept: Bools  #: (n,)
    by: Ints | None = None  #: (n,) position in the group of the kept slice that stands for a dropped one, -1 for none
    distance: NDArray[np.float32] | None = None  #: (n,) distance to it in the knob's unit, NaN for none


class Reducer(Plugin[P], ABC):
    """A way to choose slices. It describes and selects; scope, budgets, steps, seeds and caching are the core's."""

    evidence: ClassVar[Literal["none", "slice", "pair"]] = "none"  #: "pair" lives inside a volume
    scopes: ClassVar[frozenset[str]] = SCOPES
    default_scope: ClassVar[Scope] = "volume"
    device: ClassVar[Literal["cpu", "accelerator"]] = "cpu"  #: accelerator: one process owns each, workers feed it
    draws: ClassVar[bool] = False  #: uses the generator, so there is one selection per seed
    by_slice: ClassVar[bool] = False  #: evidence of a slice comes of that slice alone, so that ``describe`` may get few
    #: Reducers of one name here and equal parameters share evidence; ``version`` is then of the choice alone.
    shared_evidence: ClassVar[str | None] = None
    keeps_all: ClassVar[bool] = False  #: keeps every slice whatever the pixels, so that one pass reads and stores
    describes_at: ClassVar[bool] = False  #: with ``Slices.at``, gives NaN for pairs that ``select`` does not ask for

    @property
    def knob(self) -> Knob | None:
        """The parameter marked by ``knob``; a reducer may narrow its range, where that depends on other parameters."""
        return knob_of(type(self.params))

    def describe(self, slices: Slices) -> NDArray[Any]:
        """Evidence of one volume: (n, ...) for "slice", condensed (n (n - 1) / 2,) for "pair". Pure."""
        raise TypeError(f"{type(self).__name__} declares evidence {self.evidence!r} but has no describe")

    @abstractmethod
    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Choose from ``group`` with the knob ``at`` (NaN where there is no knob). Draw from ``rng`` alone."""

    def order(self, group: Group, rng: np.random.Generator) -> Iterator[tuple[float, Decision]] | None:
        """Yield each decision that ``select`` can make, with the smallest knob for it, from the fewest slices on.

        The knob falls, and each decision keeps more than the one before. A budget then takes one pass, which ends at
        its count. None: the core searches by trying ``select``.
        """
        return None
