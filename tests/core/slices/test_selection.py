"""Groups, steps and budgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group, NoParams, Params, Reducer, knob
from ctkit.errors import CtkitError
from ctkit.slices.selection import Choice, Selection, Table, curve, select


class BelowParams(Params):
    level: int | None = knob(None, low=0, high=100, unit="levels", description="highest evidence that is kept")


class ShareParams(Params):
    share: float | None = knob(None, low=0, high=1, unit="share", description="what is kept")


class PartParams(Params):
    share: float | None = knob(None, low=1e-6, high=1, unit="share", description="what is kept", share=True)


class WavyParams(Params):
    phase: float | None = knob(None, low=0, high=10, unit="rad", description="phase of the wave")


class Below(Reducer[BelowParams]):
    """Keeps slices whose evidence is at or below the knob; the first kept one stands for the others."""

    evidence = "slice"

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        assert group.evidence is not None
        kept = group.evidence <= at
        first = int(np.argmax(kept)) if kept.any() else -1
        return Decision(kept, np.where(kept, -1, first), np.full(len(group), 0.5, np.float32))


class Share(Reducer[Any]):
    """Draws."""

    params_type = ShareParams
    draws = True

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        order = rng.permutation(len(group))
        kept = np.zeros(len(group), bool)
        kept[order[: round(at * len(group))]] = True
        return Decision(kept)


class Part(Share):
    """Says that its knob is a share, which may be tiny."""

    params_type = PartParams


class Wavy(Reducer[WavyParams]):
    """Keeps a number of slices that goes up and down with the knob."""

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        count = round((1 + np.sin(at)) / 2 * len(group))
        return Decision(np.arange(len(group)) < count)


def table_of(counts: list[int], patients: list[int] | None = None) -> Table:
    volume = np.repeat(np.arange(len(counts)), counts)
    index = np.concatenate([np.arange(count) for count in counts])
    return Table(volume, index, np.array(patients or range(len(counts)))[volume])


def choice(reducer: Reducer[Any], at: float, evidence: NDArray[Any] | None = None, scope: Any = "volume") -> Choice:
    name = f"reducer {type(reducer).__name__}"
    return Choice(reducer, scope, at, lambda slices: None if evidence is None else evidence[slices], name)


@pytest.mark.parametrize(
    ("scope", "groups"),
    [("volume", [[0, 1], [2], [3, 4, 5]]), ("patient", [[0, 1, 2], [3, 4, 5]]), ("dataset", [[0, 1, 2, 3, 4, 5]])],
)
def test_a_scope_groups_the_slices(scope: Any, groups: list[list[int]]) -> None:
    assert [group.tolist() for group in table_of([2, 1, 3], [0, 0, 1]).groups(scope)] == groups


def test_the_data_sets_own_order_rules_inside_every_group() -> None:
    plain = table_of([2, 2])
    table = Table(plain.volume, plain.index, plain.patient, np.array([3, 1, 0, 2]))
    assert [group.tolist() for group in table.groups("volume")] == [[1, 0], [2, 3]]
    assert table.groups("dataset")[0].tolist() == [2, 1, 3, 0]


def test_an_empty_table_has_no_group() -> None:
    assert table_of([0]).groups("dataset") == []


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60), st.integers(1, 60))
def test_a_budget_is_met_within_ties_of_the_nearest_value(evidence: list[int], target: int) -> None:
    levels = np.array(evidence)
    selection = select(table_of([len(levels)]), [choice(Below(), np.nan, levels)], 0, target)
    nearest = min(abs(int((levels <= at).sum()) - target) for at in range(101))
    assert abs(int(selection.kept.sum()) - target) == nearest
    assert selection.kept.tolist() == (levels <= selection.at[-1]).tolist()


@pytest.mark.parametrize("target", [1, 7, 250, 999, 1000])
def test_a_budget_of_a_share_is_met_exactly(target: int) -> None:
    selection = select(table_of([600, 400]), [choice(Share(), np.nan, scope="dataset")], 3, target)
    assert selection.kept.sum() == target


def test_a_budget_needs_no_monotone_knob() -> None:
    selection = select(table_of([1000]), [choice(Wavy(), np.nan, scope="dataset")], 0, 777)
    assert selection.kept.sum() == 777


def test_the_same_seed_draws_alike_and_another_differently() -> None:
    def drawn(seed: int) -> list[bool]:
        return select(table_of([50, 50]), [choice(Share(), 0.5)], seed).kept.tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize(("target", "scope"), [(1, "dataset"), (3, "dataset"), (24, "dataset"), (6, "volume")])
def test_a_budget_turns_a_share_to_what_it_is_of_the_slices(target: int, scope: str) -> None:
    chosen = select(table_of([12, 12]), [choice(Part(), np.nan, scope=scope)], 1, target)
    assert chosen.kept.sum() == target
    assert chosen.at == (target / 24,)


def test_a_share_that_rounds_to_another_count_is_searched_for() -> None:
    table = table_of([3, 3, 3, 3])
    chosen = select(table, [choice(Part(), np.nan)], 1, 6)  # half of three is two
    assert chosen.kept.sum() == 4
    assert 0 < chosen.at[0] < 0.5


def test_a_curve_over_shares_begins_with_one_slice() -> None:
    counts = curve(table_of([12, 12]), [choice(Part(), np.nan, scope="dataset")], 1)
    assert (min(counts), max(counts)) == (pytest.approx(1 / 24), 1)
    assert (min(counts.values()), max(counts.values())) == (1, 24)


def test_groups_draw_independently() -> None:
    kept = select(table_of([50, 50]), [choice(Share(), 0.5)], 1).kept
    assert kept[:50].tolist() != kept[50:].tolist()


def test_representatives_are_followed_to_the_last_step() -> None:
    first, second = np.array([0, 9, 5, 9]), np.array([8, 0, 1, 0])
    steps = [choice(Below(), 5, first), choice(Below(), 4, second)]
    selection = select(table_of([4]), steps, 0)
    assert selection.kept.tolist() == [False, False, True, False]
    assert selection.by.tolist() == [2, 2, -1, 2]
    np.testing.assert_array_equal(selection.distance, np.array([0.5, np.nan, 0.5, np.nan], np.float32))


def test_a_later_step_sees_only_what_is_left() -> None:
    seen: list[int] = []

    class Spy(Below):
        def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
            seen.extend(group.index.tolist())
            return super().select(group, at, rng)

    levels = np.array([0, 9, 0, 9])
    select(table_of([4]), [choice(Below(), 5, levels), choice(Spy(), 5, levels)], 0)
    assert seen == [0, 2]


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        (lambda n: 1 // 0, "reducer Wrong failed in select: ZeroDivisionError: "),
        (lambda n: None, "reducer Wrong: select must return a Decision, but it is of type NoneType; build one"),
        (lambda n: np.ones(n, bool), "select must return a Decision, but it is of type ndarray"),
        (lambda n: Decision([True] * n), r"kept must be \(3,\) bool, but it is a list"),
        (lambda n: Decision(np.arange(n)), r"kept must be \(3,\) bool, but it is \(3,\) int64"),
        (lambda n: Decision(np.ones(n + 1, bool)), r"kept must be \(3,\) bool, but it is \(4,\) bool"),
        (lambda n: Decision(np.ones(n, bool), by=np.full(n, n)), r"by must be in -1\.\.2, but its range is 3 to 3"),
        (lambda n: Decision(np.arange(n) > 0, by=np.zeros(n, int)), "by must be the position of a kept slice"),
    ],
)
def test_a_reducer_that_fails_or_breaks_its_promise_is_named(decide: Callable[[int], Any], message: str) -> None:
    class Wrong(Reducer[NoParams]):
        def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
            return decide(len(group))  # type: ignore[no-any-return]  # wrong on purpose

    with pytest.raises(CtkitError, match=message):
        select(table_of([3]), [choice(Wrong(), 0)], 0)


def test_an_order_that_fails_or_breaks_its_promise_is_named() -> None:
    class Wrong(Below):
        def order(self, group: Group, rng: np.random.Generator) -> Any:
            yield 50.0, Decision(np.ones(len(group) + 1, bool))
            raise KeyError

    for target, message in ((1, r"kept must be \(3,\) bool"), (9, "reducer Wrong failed in order: KeyError")):
        with pytest.raises(CtkitError, match=message):
            select(table_of([3]), [choice(Wrong(), np.nan, np.arange(3))], 0, target)


def test_everything_is_kept_to_begin_with() -> None:
    assert Selection.everything(3).kept.all()


def test_a_curve_counts_what_each_selection_would_keep() -> None:
    table, evidence = table_of([30, 11]), np.random.default_rng(3).integers(0, 101, 41)
    steps = [choice(Below(), 70, evidence), choice(Below(), 5, evidence)]
    found = curve(table, steps, seed=1)
    assert list(found) == list(range(101))
    assert all(kept == np.count_nonzero(evidence <= min(at, 70)) for at, kept in found.items())


def test_a_curve_need_not_be_steady() -> None:
    kept = list(curve(table_of([100]), [choice(Wavy(), 0)], seed=1).values())
    assert len(kept) == 33
    assert np.any(np.diff(kept) > 0)
    assert np.any(np.diff(kept) < 0)


def test_a_reducer_without_a_knob_has_no_curve() -> None:
    class Everything(Reducer[NoParams]):
        def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
            return Decision(np.ones(len(group), bool))

    with pytest.raises(ValueError, match="Everything has no knob"):
        curve(table_of([3]), [choice(Everything(), float("nan"))], seed=1)
