"""Choosing slices on evidence alone: groups, steps one after the other, and budgets that turn a reducer's knob."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools, Decision, Group, Ints, Knob, Reducer
from ctkit.contracts.judge import Judge
from ctkit.contracts.reducer import Scope
from ctkit.promises import check_decision

#: Part of the address of selections: raised when the core chooses otherwise on the same evidence.
VERSION = 1


@dataclass(frozen=True)
class Table:
    """Every readable slice of the data set, ``n`` in all, numbered through in the order of patient, key and index."""

    volume: Ints  #: (n,) number of the volume
    index: Ints  #: (n,) number in the volume
    patient: Ints  #: (n,) number of the patient
    rank: Ints | None = None  #: (n,) place in the data set's own order, where that differs from the numbering
    _groups: dict[Scope, list[Ints]] = field(default_factory=dict, repr=False)

    @classmethod
    def empty(cls) -> Table:
        """A table without slices."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none)

    def __len__(self) -> int:
        return len(self.index)

    def groups(self, scope: Scope) -> list[Ints]:
        """Slice numbers of each group, in the order in which a reducer goes through them."""
        if scope not in self._groups:
            self._groups[scope] = self._split(scope) if len(self) else []
        return self._groups[scope]

    def _split(self, scope: Scope) -> list[Ints]:
        order = np.arange(len(self)) if self.rank is None else np.argsort(self.rank, kind="stable")
        if scope == "dataset":
            return [order]
        key = (self.volume if scope == "volume" else self.patient)[order]
        by_key = np.argsort(key, kind="stable")
        bounds = np.flatnonzero(np.diff(key[by_key])) + 1
        return np.split(order[by_key], bounds)


#: What a step decides on a group, whose slices are numbers in the table.
Decided = tuple[Ints, Decision]
#: Gives the evidence of slices (numbers in the table, all of one group) as ``Group.evidence`` wants it.
EvidenceOf = Callable[[Ints], NDArray[Any] | None]


@dataclass(frozen=True)
class Choice:
    """One step ready to choose: the reducer, its scope, its knob (NaN for a budget) and where its evidence is."""

    reducer: Reducer[Any]
    scope: Scope
    at: float
    evidence: EvidenceOf
    name: str  #: what messages call the reducer


@dataclass(frozen=True)
class Selection:
    """What an arm keeps of a table of ``n`` slices."""

    kept: Bools  #: (n,)
    by: Ints  #: (n,) number of the kept slice that stands for a dropped one, -1 for none
    distance: NDArray[np.float32]  #: (n,) to it in the reducer's unit; NaN for none, or where a later step moved on
    at: tuple[float, ...]  #: knob of each step, NaN where there is none

    @classmethod
    def everything(cls, n: int) -> Selection:
        """Keep all of ``n`` slices: what the first step begins with."""
        return cls(np.ones(n, bool), np.full(n, -1), np.full(n, np.nan, np.float32), ())


def select(table: Table, choices: Sequence[Choice], seed: int, target: int | None = None) -> Selection:
    """Apply steps one after the other; ``target`` slices to keep turn the knob of the last.

    A budget is met at the nearest of the knob's values that were tried: every value of an integer knob, or where the
    reducer gives its decisions in order; otherwise a grid refined around the best. The count need not fall or rise
    steadily with the knob, and nothing here assumes it but of such an order. Of two values equally near the smaller
    selection wins. A knob that is a share is tried as the budget's share first.
    """
    selection = _before_last(table, choices, seed)
    last, key = choices[-1], (seed, len(choices) - 1)
    if target is None or last.reducer.knob is None:
        return _apply(table, last, last.at, selection, key)
    if in_order := _in_order(table, last, selection, key):
        return _nearest(last, selection, in_order, target)
    tries, left = _Tries(lambda at: _apply(table, last, at, selection, key), target), int(selection.kept.sum())
    if not (last.reducer.knob.share and left and tries.excess(min(target / left, 1.0)) == 0):
        _search(last.reducer.knob, left, tries.excess)
    return tries.best


def curve(table: Table, choices: Sequence[Choice], seed: int) -> dict[float, int]:
    """Return how many slices the steps keep at each value of the last one's knob, which must have one.

    Tried are the values that a budget begins with: all of a small integer range, else 33. The count need not fall or
    rise steadily.
    """
    before = _before_last(table, choices, seed)
    last, key = choices[-1], (seed, len(choices) - 1)
    if last.reducer.knob is None:
        raise ValueError(f"{type(last.reducer).__name__} has no knob")
    grid = _grid(last.reducer.knob, int(before.kept.sum()))
    if in_order := _in_order(table, last, before, key):
        knobs, counts = zip(*((at, kept) for at, kept, _ in in_order), strict=True)
        first = np.minimum(np.searchsorted(-np.array(knobs), -np.array(grid)), len(knobs) - 1)
        return {at: counts[number] for at, number in zip(grid, first, strict=True)}
    return {at: int(_apply(table, last, at, before, key).kept.sum()) for at in grid}


def last_groups(table: Table, choices: Sequence[Choice], seed: int) -> Iterator[tuple[Ints, Group]]:
    """What the last step decides on, group by group: numbers of slices in its order, and what the reducer sees."""
    before = _before_last(table, choices, seed)
    for left, group, _ in _groups(table, choices[-1], before, (seed, len(choices) - 1)):
        yield left, group


def _before_last(table: Table, choices: Sequence[Choice], seed: int) -> Selection:
    """What all steps but the last leave."""
    selection = Selection.everything(len(table))
    for number, choice in enumerate(choices[:-1]):
        selection = _apply(table, choice, choice.at, selection, (seed, number))
    return selection


class _Tries:
    """Remembers the count at every value tried, and the selection nearest to the target."""

    def __init__(self, choose: Callable[[float], Selection], target: int) -> None:
        self._choose, self._target = choose, target
        self._counts: dict[float, int] = {}
        self._nearest: tuple[int, int] | None = None
        self.best: Selection

    def excess(self, at: float) -> int:
        """Slices kept at a value of the knob, less the target."""
        if at not in self._counts:
            selection = self._choose(at)
            kept = self._counts[at] = int(selection.kept.sum())
            nearness = (abs(kept - self._target), kept)
            if self._nearest is None or nearness < self._nearest:
                self._nearest, self.best = nearness, selection
        return self._counts[at] - self._target


def _search(knob: Knob, slices: int, excess: Callable[[float], int]) -> None:
    """Try values of a knob on ``slices`` until one meets the target, or the neighbours of the best are refined away."""
    grid = _grid(knob, slices)
    errors = [excess(at) for at in grid]
    if knob.integer and len(grid) == int(knob.high - knob.low) + 1:
        return
    crossings = [
        (abs(a) + abs(b), x, y, a)
        for x, y, a, b in zip(grid, grid[1:], errors, errors[1:], strict=False)
        if (a < 0) != (b < 0)
    ]
    for _, low, high, error in sorted(crossings)[:3]:
        _bisect(low, high, error, excess, integer=knob.integer)


def _grid(knob: Knob, slices: int) -> list[float]:
    """Values to try first: all of a small integer range; else 33, evenly, or by ratio over several magnitudes.

    A share of so many ``slices`` begins with one of them.
    """
    if knob.integer and knob.high - knob.low <= 256:
        return [float(value) for value in range(int(knob.low), int(knob.high) + 1)]
    low = max(knob.low, 1 / slices) if knob.share and slices else knob.low
    spread = np.geomspace if low > 0 and knob.high / low > 1000 else np.linspace
    values = spread(low, knob.high, 33)
    return sorted({float(round(value) if knob.integer else value) for value in values})


def _bisect(low: float, high: float, error_low: int, excess: Callable[[float], int], *, integer: bool) -> None:
    for _ in range(40):
        middle = float(round((low + high) / 2)) if integer else (low + high) / 2
        if middle in (low, high):
            return
        error = excess(middle)
        if error == 0:
            return
        if (error < 0) == (error_low < 0):
            low = middle
        else:
            high = middle


def _apply(table: Table, choice: Choice, at: float, before: Selection, key: tuple[int, int]) -> Selection:
    """One step on what is left of ``before``. Raises ``CtkitError`` where the reducer fails or breaks its promise."""
    judge = Judge(choice.name)

    def decided() -> Iterator[Decided]:
        for left, group, rng in _groups(table, choice, before, key):
            with judge.calling("select"):
                decision = choice.reducer.select(group, at, rng)
            yield left, decision

    return _merged(judge, before, decided(), at)


def _groups(
    table: Table, choice: Choice, before: Selection, key: tuple[int, int]
) -> Iterator[tuple[Ints, Group, np.random.Generator]]:
    """What is left of ``before`` in each group, as numbers and as the reducer sees it."""
    unused = np.random.default_rng(key)  # a generator for each group costs more than many a choice
    for slices in table.groups(choice.scope):
        left = slices[before.kept[slices]]
        if len(left):
            group = Group(table.volume[left], table.index[left], choice.evidence(left))
            yield left, group, _generator(table, left, key) if choice.reducer.draws else unused


def _merged(judge: Judge, before: Selection, decided: Iterable[Decided], at: float) -> Selection:
    kept, by, distance = before.kept.copy(), before.by.copy(), before.distance.copy()
    for left, decision in decided:
        check_decision(judge, decision, len(left))
        kept[left] = decision.kept
        if decision.by is not None:
            by[left] = np.where(decision.by >= 0, left[decision.by], -1)
            distance[left] = np.nan if decision.distance is None else decision.distance
    _follow(before, kept, by, distance)
    return Selection(kept, by, distance, (*before.at, at))


def _in_order(
    table: Table, choice: Choice, before: Selection, key: tuple[int, int]
) -> Iterator[tuple[float, int, dict[int, Decided]]] | None:
    """For falling values of the knob: the value, slices kept, and the groups (by number) that decide otherwise there.

    None where the reducer gives no order, or nothing is left to decide on.
    """
    judge, orders = Judge(choice.name), []
    for left, group, rng in _groups(table, choice, before, key):
        with judge.calling("order"):
            order = choice.reducer.order(group, rng)
        if order is None:
            return None
        orders.append((left, order))
    return _side_by_side(judge, orders) if orders else None


def _side_by_side(
    judge: Judge, orders: Sequence[tuple[Ints, Iterator[tuple[float, Decision]]]]
) -> Iterator[tuple[float, int, dict[int, Decided]]]:
    """Go through the decisions of all groups at once, the group with the largest knob next."""
    waiting: list[tuple[float, int]] = []  # the knob, negated, of each group that may decide otherwise further down
    counts, kept, moved = [0] * len(orders), 0, list(range(len(orders)))
    while True:
        changed: dict[int, Decided] = {}
        for number in moved:
            left, order = orders[number]
            with judge.calling("order"):
                following = next(order, None)
            if following is not None:
                right = isinstance(following, tuple) and [*map(type, following)][1:] == [Decision]
                judge.must(right, f"order must yield (knob, Decision), but gave {following!r:.100}; yield both")
                at, decision = following
                heapq.heappush(waiting, (-at, number))
                kept -= counts[number]
                counts[number], changed[number] = int(np.count_nonzero(decision.kept)), (left, decision)
                kept += counts[number]
        if not waiting:
            return
        yield -waiting[0][0], kept, changed
        at, moved = waiting[0][0], []
        while waiting and waiting[0][0] == at:
            moved.append(heapq.heappop(waiting)[1])


def _nearest(
    choice: Choice, before: Selection, in_order: Iterator[tuple[float, int, dict[int, Decided]]], target: int
) -> Selection:
    """The decisions nearest to the target, of equally near ones those that keep fewer."""
    decided: dict[int, Decided] = {}
    reached = knob = float("nan")
    for at, kept, changed in in_order:
        if decided and target - reached <= kept - target:
            break
        decided.update(changed)
        reached, knob = kept, at
        if kept >= target:
            break
    return _merged(Judge(choice.name), before, decided.values(), knob)


def _follow(before: Selection, kept: Bools, by: Ints, distance: NDArray[np.float32]) -> None:
    """Let what an earlier step dropped be stood for by whoever stands for its representative now."""
    orphaned = np.flatnonzero(~before.kept & (before.by >= 0))
    orphaned = orphaned[~kept[before.by[orphaned]]]
    by[orphaned] = by[before.by[orphaned]]
    distance[orphaned] = np.nan


def _generator(table: Table, slices: Ints, key: tuple[int, int]) -> np.random.Generator:
    """A generator of the seed, the step and the group, so that groups draw alike in any order."""
    first = slices[0]
    digest = hashlib.sha256(f"{table.volume[first]}:{table.index[first]}".encode()).digest()
    return np.random.default_rng([*key, int.from_bytes(digest[:8], "little")])
