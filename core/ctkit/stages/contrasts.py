"""Contrasts: which arms are compared with which, and which of these comparisons answer the question of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ctkit.pipeline_file import Arm

REFERENCE, SAME_SIZE, BASELINE = "reference", "same size", "baseline"


class Contrast(NamedTuple):
    """One arm less another, or less a baseline."""

    arm: str
    other: str
    kind: str  #: what ``other`` is to the arm
    primary: bool  #: whether it belongs to the question: is this choice as good as all slices, and better than chance?


def contrasts(arms: Sequence[Arm], reference: Arm, baselines: Sequence[str]) -> Iterator[Contrast]:
    """Each arm with the reference; with the arms of its size where one takes ``like`` from it; with each baseline.

    The primary ones are those with the reference, and those with the control of equal size: the random arm, or where
    there is none an arm that looks at no pixels. What is said of a control itself is not primary.
    """
    others = [arm for arm in arms if arm.id != reference.id]
    sizes = [
        [arm for arm in others if _size(arm, arms) == size] for size in dict.fromkeys(_size(a, arms) for a in arms)
    ]
    same_size = {(one.id, other.id): primary for group in sizes for one, other, primary in _within(group)}
    controls = {other for (_, other), primary in same_size.items() if primary}
    for arm in others:
        yield Contrast(arm.id, reference.id, REFERENCE, arm.id not in controls)
        yield from (Contrast(one, other, SAME_SIZE, same_size[one, other]) for one, other in same_size if one == arm.id)
    for baseline in baselines:
        yield from (Contrast(arm.id, baseline, BASELINE, False) for arm in arms)


def _within(group: Sequence[Arm]) -> Iterator[tuple[Arm, Arm, bool]]:
    """Comparisons within arms of one size: all with the controls, and the one that gives its size with the rest."""
    blind = [arm for arm in group if all(step.plugin.evidence == "none" for step in arm.steps)]
    takers = [arm for arm in group if arm.keep and arm.keep.like]
    controls = [arm for arm in blind if arm.draws] or [arm for arm in blind if arm in takers]
    for one in group:
        for other in group:
            if one not in controls and other in controls:
                yield one, other, True
            elif other in takers and one not in (*takers, *controls):
                yield one, other, False


def _size(arm: Arm, arms: Sequence[Arm]) -> object:
    """What the size of an arm comes from: a budget, or the arm whose size it is."""
    if arm.keep is None:
        return arm.id
    if arm.keep.like:
        return _size(next(one for one in arms if one.id == arm.keep.like), arms)
    return arm.keep
