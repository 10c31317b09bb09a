"""Which arms are compared with which, and which comparisons answer the question."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ctkit.pipeline_file import Keep
from ctkit.stages.contrasts import contrasts


def arm(name: str, evidence: str = "slice", *, draws: bool = False, **keep: Any) -> Any:
    """What the contrasts look at, in an arm of one step."""
    step = SimpleNamespace(plugin=SimpleNamespace(evidence=evidence))
    return SimpleNamespace(id=name, steps=(step,), draws=draws, keep=Keep(**keep) if keep else None)


ALL, HASH = arm("all", "none"), arm("hash")
RANDOM = arm("random", "none", draws=True, like="hash")
EVERY = arm("every-n", "none", like="hash")
SSIM = arm("ssim", "pair", like="hash")


def found(*arms: Any, baselines: tuple[str, ...] = ()) -> dict[tuple[str, str], tuple[str, bool]]:
    rows = list(contrasts(arms, arms[0], baselines))
    assert len({row[:2] for row in rows}) == len(rows)
    return {(row.arm, row.other): (row.kind, row.primary) for row in rows}


def test_an_arm_is_compared_with_all_and_with_the_random_arm_of_its_size() -> None:
    assert found(ALL, HASH, RANDOM, baselines=("untrained",)) == {
        ("hash", "all"): ("reference", True),
        ("hash", "random"): ("same size", True),
        ("random", "all"): ("reference", False),
        **{(name, "untrained"): ("baseline", False) for name in ("all", "hash", "random")},
    }


def test_every_arm_of_a_size_meets_the_random_one_and_the_first_of_them_all_others() -> None:
    rows = found(ALL, HASH, EVERY, SSIM, RANDOM)
    assert {pair: primary for pair, (kind, primary) in rows.items() if kind == "same size"} == {
        ("hash", "random"): True,
        ("every-n", "random"): True,
        ("ssim", "random"): True,
        ("hash", "every-n"): False,
        ("hash", "ssim"): False,
    }
    assert [pair for pair, (kind, primary) in rows.items() if kind == "reference" and not primary] == [
        ("random", "all")
    ]


def test_without_a_random_arm_one_that_looks_at_no_pixels_is_the_control() -> None:
    rows = found(ALL, HASH, EVERY, SSIM)
    assert rows["hash", "every-n"] == rows["ssim", "every-n"] == ("same size", True)
    assert rows["hash", "ssim"] == ("same size", False)
    assert rows["every-n", "all"] == ("reference", False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(arm("hash", share=0.1), arm("random", "none", draws=True, share=0.1), id="one share"),
        pytest.param(arm("hash", like="random"), arm("random", "none", draws=True, count=50), id="like the random one"),
    ],
)
def test_a_budget_makes_arms_of_one_size_too(one: Any, other: Any) -> None:
    assert found(ALL, one, other)["hash", "random"] == ("same size", True)


def test_a_random_arm_of_another_size_controls_nothing() -> None:
    rows = found(ALL, HASH, arm("random", "none", draws=True, share=0.1))
    assert rows == {("hash", "all"): ("reference", True), ("random", "all"): ("reference", True)}


def test_without_all_slices_the_first_arm_is_compared_with_its_random_one_once() -> None:
    assert found(HASH, RANDOM) == {("random", "hash"): ("reference", True)}
