"""The arms that look at no pixel: all slices, every n-th slice, and a random share."""

from __future__ import annotations

import numpy as np

from ctkit.contracts import Decision, Group, Ints, NoParams, Params, Reducer, knob


class All(Reducer[NoParams]):
    """Keep every slice: the arm that the others are compared with."""

    keeps_all = True

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Keep the whole group."""
        return Decision(np.ones(len(group), bool))


class EveryNParams(Params):
    """How many slices one stands for."""

    n: float = knob(10, low=1, high=1e6, unit="slices", description="step from one kept slice to the next")


class EveryN(Reducer[EveryNParams]):
    """Keep the first slice of each volume and every ``n``-th after it; a fractional ``n`` meets any budget.

    Slices are counted by their number in the volume, so a missing slice does not shift the later ones.
    """

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Keep a slice where its number, counted from the volume's first slice here, enters another ``n``."""
        number = group.index - _first_index(group)
        return Decision((number == 0) | (number // at != (number - 1) // at))


class RandomParams(Params):
    """How many slices to keep."""

    share: float | None = knob(
        None, low=1e-6, high=1, unit="of the slices", description="share of each group to keep", share=True
    )


class Random(Reducer[RandomParams]):
    """Keep a random share of each group, rounded to whole slices but never to none.

    Every slice draws a number and the smallest are kept, so for one seed a smaller share is part of a larger one.
    """

    version = 2
    default_scope = "dataset"
    draws = True

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Keep the ``at * n`` slices that draw the smallest numbers."""
        rank = np.argsort(np.argsort(rng.random(len(group)), kind="stable"), kind="stable")
        return Decision(rank < max(1, round(at * len(group))))


def _first_index(group: Group) -> Ints:
    """For each slice (n,) the smallest number that its volume has in the group."""
    _, volume = np.unique(group.volume, return_inverse=True)
    first = np.full(len(group), np.iinfo(np.int64).max)
    np.minimum.at(first, volume, group.index)
    found: Ints = first[volume]
    return found
