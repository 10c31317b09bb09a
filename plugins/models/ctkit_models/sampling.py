"""Which slices make a batch: an epoch's order, drawn whole, in which each ``batch`` slices in a row are a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctkit.contracts import Ints

#: Orders an epoch: volume's number of each slice (n,) and batch to positions (n // batch * batch,) in the arm.
Sampler = Callable[[Ints, int, np.random.Generator], Ints]


def uniform(volume: Ints, batch: int, rng: np.random.Generator) -> Ints:
    """Any slice beside any other, each at most once; the few that fill no whole batch are left out."""
    return rng.permutation(len(volume))[: len(volume) // batch * batch]


def one_per_volume(volume: Ints, batch: int, rng: np.random.Generator) -> Ints:
    """No two slices of a volume in a batch, and each slice as often as the others as far as that allows.

    A volume has at most one slice in each batch: of a volume with more slices than the epoch has batches, some are left
    out, and slices of smaller volumes take the places that nobody else can. There must be ``batch`` volumes.
    """
    batches = len(volume) // batch
    volume = np.unique(volume, return_inverse=True)[1]
    drawn = _draw_slices(volume, batches, batches * batch, rng)
    places = _spread(np.bincount(volume[drawn], minlength=volume.max() + 1), batches, batch, rng)
    order = np.empty_like(drawn)
    order[np.argsort(places, kind="stable")] = drawn[np.argsort(volume[drawn], kind="stable")]
    return order


SAMPLERS: dict[str, Sampler] = {"uniform": uniform, "one-per-volume": one_per_volume}


def occurrence(values: Ints) -> Ints:
    """How many equal values (n,) stand before each."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - np.repeat(first, counts)
    return before


def _draw_slices(volume: Ints, most: int, places: int, rng: np.random.Generator) -> Ints:
    """Positions (places,) of slices: at most ``most`` of each volume, and none again before all others that may."""
    used = np.zeros(volume.max() + 1, np.int64)
    drawn = np.empty(0, np.int64)
    while len(drawn) < places:
        order = rng.permutation(len(volume))
        allowed = order[used[volume[order]] + occurrence(volume[order]) < most]
        drawn = np.concatenate([drawn, allowed[: places - len(drawn)]])
        used = np.bincount(volume[drawn], minlength=len(used))
    return drawn


def _spread(counts: Ints, batches: int, batch: int, rng: np.random.Generator) -> Ints:
    """Volumes (batches * batch,), number ``v`` of them ``counts[v]`` times and never twice in a batch.

    Each batch draws among the volumes with a chance in proportion to what they have left (Efraimidis & Spirakis 2006);
    one that has as much left as there are batches must be in all of them.
    """
    left = counts.copy()
    places = np.empty((batches, batch), np.int64)
    for number in range(batches):
        key = np.log1p(-rng.random(len(left))) / np.maximum(left, 1)
        key[left == 0], key[left == batches - number] = -np.inf, np.inf
        places[number] = rng.permutation(np.argpartition(-key, batch - 1)[:batch])
        left[places[number]] -= 1
    return places.ravel()
