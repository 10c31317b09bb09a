"""The checks of reducers: pure evidence, and decisions that say what they must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Decision, Group, Ints, Knob, Params, Reducer, Slices
from ctkit.contracts.judge import Judge
from ctkit.errors import CtkitError
from ctkit.promises import check_decision
from ctkit.testing import samples
from ctkit.testing.plugins import Checks, Once

SEEDS = range(8)


@dataclass(frozen=True)
class _Case:
    what: str
    group: Group


class ReducerChecks(Checks[Reducer[Any]]):
    """Of a reducer, on small synthetic volumes, among them single, constant and repeated slices.

    ``within_knob``: a dropped slice is at most the knob away from the one that stands for it, as in every reducer
    that drops near-duplicates. Pass False where that slice may be farther away, such as at the end of a chain.
    """

    kind = "reducer"

    def __init__(self, plugin: type[Reducer[Any]], params: Params | None = None, *, within_knob: bool = True) -> None:
        super().__init__(plugin, params)
        self._within_knob = within_knob
        self._volumes = [
            *(samples.volume(12, seed=1), samples.volume(9, seed=2), samples.volume(1, seed=3), samples.constant(3))
        ]

    @Once
    def evidence(self) -> list[NDArray[Any] | None]:
        """Evidence of each volume."""
        return [_described(self.judge, self.built, volume) for volume in self._volumes]

    @Once
    def groups(self) -> list[_Case]:
        """What there is to choose from."""
        return list(_groups(self.built, self._volumes, self.evidence))

    def check_knob(self) -> None:
        """The knob must be the parameter that is marked as such."""
        if self.built.knob is not None:
            _check_knob(self.judge, self.built, self.built.knob)

    def check_pickling(self) -> None:
        """A reducer on the CPU must survive pickling."""
        if self.built.device == "cpu":
            self.must_survive_pickling()

    def check_evidence(self) -> None:
        """Evidence must be finite numbers, a row for each slice or the condensed triangle."""
        assert self.evidence

    def check_purity(self) -> None:
        """The same slices must give the same evidence, with or without Hounsfield units."""
        judge, reducer, volumes, evidence = self.judge, self.built, self._volumes, self.evidence
        if reducer.evidence == "none":
            return
        for built in (reducer, self.plugin(reducer.params)):
            for volume, before in zip(volumes, evidence, strict=True):
                again = _described(judge, built, volume)
                judge.must(
                    before is not None and again is not None and _equal(before, again),
                    "describe must be pure: the same slices must give the same evidence, but they gave another; keep no"
                    " state, and use no random numbers",
                )
        if reducer.by_slice and evidence[0] is not None:
            singles = [_described(judge, reducer, _only(volumes[0], number)) for number in range(len(volumes[0].index))]
            judge.must(
                _equal(np.concatenate([one for one in singles if one is not None]), evidence[0]),
                "a reducer with by_slice must describe each slice by itself, but alone slices have other evidence;"
                " remove by_slice",
            )
        promise = "describe must work without Hounsfield units, which photographs lack, or raise ctkit.errors.DataError"
        with suppress(CtkitError), judge.keeping(promise, "see Slices.hu", CtkitError):
            _described(judge, reducer, replace(volumes[0], hu=None))

    def check_choices(self) -> None:
        """What select decides must hold together, for every group and knob."""
        for at in settings(self.built):
            for group in self.groups:
                _check_choice(self.judge, self.built, group, at, within_knob=self._within_knob)

    def check_order(self) -> None:
        """What order yields must be what select decides."""
        for group in self.groups:
            _check_order(self.judge, self.built, group)

    def check_draws(self) -> None:
        """A reducer that draws must depend on the generator."""
        if self.built.draws:
            select = self.built.select
            differ = any(
                len({select(case.group, at, np.random.default_rng(seed)).kept.tobytes() for seed in SEEDS}) > 1
                for at in settings(self.built)
                for case in self.groups
            )
            self.judge.must(
                differ,
                "a reducer with draws must depend on the generator,"
                f" but {len(SEEDS)} seeds gave the same selections; set draws = False, or pass parameters with a random"
                " choice",
            )


def settings(reducer: Reducer[Any]) -> list[float]:
    """Values of a reducer's knob worth trying: its ends, its own and some between; NaN where there is none."""
    knob = reducer.knob
    if knob is None:
        return [float("nan")]
    by_ratio = knob.low > 0 and knob.high / knob.low > 1000
    spread = np.geomspace if by_ratio else np.linspace
    values = {knob.low, *spread(knob.low, knob.high, 7)[1:-1].tolist(), knob.high}
    if (own := getattr(reducer.params, knob.name)) is not None:
        values.add(own)
    return sorted({float(round(value)) if knob.integer else float(value) for value in values})


def _check_knob(judge: Judge, reducer: Reducer[Any], knob: Knob) -> None:
    marked = [
        name
        for name, field in type(reducer.params).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and "knob" in field.json_schema_extra
    ]
    judge.must(
        marked == [knob.name],
        f"the knob must be the one parameter marked as such, but the knob is {knob.name!r},"
        f" and {' and '.join(marked) or 'none'} marked; mark one with ctkit.contracts.knob",
    )


def _described(judge: Judge, reducer: Reducer[Any], volume: Slices) -> NDArray[Any] | None:
    """Describe a volume and check the shape of the evidence; None where the reducer needs none."""
    if reducer.evidence == "none":
        return None
    grey, hu = volume.grey.copy(), None if volume.hu is None else volume.hu.copy()
    evidence = reducer.describe(volume)
    n = len(volume.index)
    objects = " of objects" if isinstance(evidence, np.ndarray) else ""
    judge.must(
        isinstance(evidence, np.ndarray) and not evidence.dtype.hasobject,
        f"describe must return an array of numbers, but it returned {type(evidence).__name__}{objects};"
        " it is written to a .npy file without pickling",
    )
    if reducer.evidence == "slice":
        right, wanted, advice = evidence.shape[:1] == (n,), f"({n}, ...)", "a row for each slice"
    else:
        pairs = (n * (n - 1) // 2,)
        right, wanted, advice = evidence.shape == pairs, str(pairs), "the condensed triangle, as pdist does"
    judge.must(
        right,
        f"evidence {reducer.evidence!r} of {n} slices must have the shape {wanted}, but it is {evidence.shape};"
        f" return {advice}",
    )
    judge.must(
        evidence.dtype.kind not in "fc" or np.isfinite(evidence).all(),
        "evidence must be finite, also of constant slices,"
        " but it holds NaN or infinity; define the evidence of a slice without contrast",
    )
    untouched = np.array_equal(grey, volume.grey) and _same(hu, volume.hu)
    judge.must(
        untouched,
        "describe must not change the pixels, but it did; copy them first: others use them",
    )
    return evidence


def _only(volume: Slices, number: int) -> Slices:
    part = slice(number, number + 1)
    return replace(
        volume, grey=volume.grey[part], hu=None if volume.hu is None else volume.hu[part], index=volume.index[part]
    )


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _groups(reducer: Reducer[Any], volumes: list[Slices], evidence: list[NDArray[Any] | None]) -> Iterator[_Case]:
    names = ("a volume", "another volume", "a single slice", "constant slices")
    for number, (what, volume, found) in enumerate(zip(names, volumes, evidence, strict=True)):
        yield _Case(what, _group(np.full(len(volume.index), number), volume.index, found))
    none = np.zeros(0, np.int64)
    yield _Case("no slice at all", _group(none, none, None if evidence[0] is None else evidence[0][:0]))
    if set(reducer.scopes) - {"volume"}:
        of = np.repeat(np.arange(len(volumes)), [len(volume.index) for volume in volumes])
        index = np.concatenate([volume.index for volume in volumes])
        together = None if evidence[0] is None else np.concatenate([part for part in evidence if part is not None])
        yield _Case("several volumes", _group(of, index, together))


def _group(volume: Ints, index: Ints, evidence: NDArray[Any] | None) -> Group:
    if evidence is not None:
        evidence = evidence.copy()
        evidence.setflags(write=False)  # the core maps evidence from disk, for reading
    return Group(volume.astype(np.int64), index, evidence)


def _check_choice(judge: Judge, reducer: Reducer[Any], case: _Case, at: float, *, within_knob: bool) -> None:
    where = f" of {case.what}" + ("" if reducer.knob is None else f" with {reducer.knob.name} = {at:g}")
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    decision = _selected(judge, reducer, case.group, at, rng, where)
    _check_decision(judge, decision, case.group, where)
    if within_knob and decision.distance is not None and reducer.knob is not None:
        farthest = float(np.nanmax(decision.distance, initial=-np.inf))
        judge.must(
            farthest <= at + 1e-6 * (1 + abs(at)),
            f"distance{where} must be at most the knob, but it goes to {farthest:g};"
            " give distances in the knob's unit; pass within_knob=False if representatives may be farther by design",
        )
    judge.must(
        not reducer.keeps_all or decision.kept.all(),
        f"a reducer with keeps_all must keep every slice{where},"
        f" but it dropped {int((~decision.kept).sum())}; set keeps_all = False",
    )
    again = _selected(judge, reducer, case.group, at, np.random.default_rng(5), where)
    judge.must(
        np.array_equal(decision.kept, again.kept) and _same(decision.by, again.by),
        f"select{where} must decide the same for the same generator, but it decided differently; draw from `rng` alone",
    )
    judge.must(
        reducer.draws or rng.bit_generator.state == before,
        f"a reducer with a random choice must set draws, but select{where} used the generator; set draws = True, for"
        " one selection per seed",
    )


def _selected(
    judge: Judge, reducer: Reducer[Any], group: Group, at: float, rng: np.random.Generator, where: str
) -> Decision:
    promise = f"select must work for every group, also small, empty and read-only ones, and decide{where}"
    with judge.keeping(promise, "handle it"):
        return reducer.select(group, at, rng)


def _check_decision(judge: Judge, decision: Decision, group: Group, where: str) -> None:
    n = len(group)
    check_decision(judge, decision, n, where)
    if decision.by is None:
        judge.must(
            decision.distance is None,
            f"distance{where} is to the slice in by, so by must be given too, but it is not; give both",
        )
        return
    _check_dtype(judge, f"by{where}", decision.by, np.dtype(np.int64))
    judge.must(
        (decision.by[decision.kept] == -1).all(), f"by{where} must be -1 for a kept slice, but it is not; set it to -1"
    )
    represented = decision.by >= 0
    if decision.distance is not None:
        _check_dtype(judge, f"distance{where}", decision.distance, np.dtype(np.float32))
        given = decision.distance[represented]
        judge.must(
            np.isnan(decision.distance[~represented]).all() and np.isfinite(given).all() and (given >= 0).all(),
            f"distance{where} must be 0 or more where by is given, and NaN where by is -1, but it is"
            f" {decision.distance}; correct it",
        )


def _check_order(judge: Judge, reducer: Reducer[Any], case: _Case) -> None:
    before, many = np.inf, 0
    for at, decision in reducer.order(case.group, np.random.default_rng(5)) or ():
        kept = int(decision.kept.sum())
        judge.must(
            at < before and kept > many,
            f"order of {case.what} must yield a falling knob and more slices each time, but it goes from {many} at"
            f" {before:g} to {kept} at {at:g}",
        )
        chosen = _selected(judge, reducer, case.group, at, np.random.default_rng(5), f" of {case.what}")
        judge.must(
            np.array_equal(chosen.kept, decision.kept) and _same(chosen.by, decision.by),
            f"order of {case.what} must yield what select decides, but does not at {at:g}",
        )
        before, many = at, kept


def _check_dtype(judge: Judge, name: str, column: NDArray[Any], dtype: np.dtype[Any]) -> None:
    judge.must(column.dtype == dtype, f"{name} must be {dtype}, but it is {column.dtype}; convert it")


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return (one is None and other is None) or (one is not None and other is not None and np.array_equal(one, other))
