"""Selections of arms, by arm and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctkit.pipeline_file import Arm
from ctkit.slices import Selection


@dataclass(frozen=True)
class Selected:
    """What an arm keeps with one seed."""

    arm: Arm
    seed: int | None  #: None where the arm does not draw, so that every seed has this selection
    address: str
    selection: Selection
    asked: int | None  #: slices that a budget asked for
    seconds: float


Selections = dict[tuple[str, int | None], Selected]  #: by arm and seed


def keys(arms: Sequence[Arm], seeds: Sequence[int]) -> list[tuple[str, int | None]]:
    """Arm and seed of every selection of some arms; one for all seeds (None) where an arm does not draw."""
    by_name = {arm.id: arm for arm in arms}
    return [(arm.id, seed) for arm in arms for seed in (seeds if draws(arm, by_name) else (None,))]


def of_seed(selections: Selections, arm: Arm, seed: int) -> Selected:
    """Return what an arm keeps with a seed."""
    return selections[(arm.id, seed)] if (arm.id, seed) in selections else selections[(arm.id, None)]


def draws(arm: Arm, arms: Mapping[str, Arm]) -> bool:
    """Whether an arm, or one that it takes its size from, has one selection per seed."""
    return arm.draws or bool(arm.keep and arm.keep.like and draws(arms[arm.keep.like], arms))
