"""Are test images among the slices that the backbone was pre-trained on? Compares hash codes only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Rows, Task
from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_tasks.findings import NEAR, SIDE, fingerprints, telling

_AT_ONCE = 1 << 20  # pairs of codes that are compared at a time, about 16 MB


def pretraining_leak(task: Task[Any], slices: Rows | None) -> Iterator[str]:
    """Say how many test images nearly equal a slice of ``slices``; nothing where none does, or none are known."""
    if slices is None or not len(slices):
        return
    found = [_leaked(task, shard, rows) for shard, rows in _by_shard(slices)]
    leaked = len(np.unique(np.concatenate(found)))
    if leaked:
        alike = f"{NEAR} or fewer of {SIDE * SIDE} hash bits differ"
        images = len(task.splits()["test"].names)
        yield f"test: {leaked} of {images} images nearly equal a slice that the backbone was pre-trained on ({alike})"


def _by_shard(slices: Rows) -> Iterator[tuple[Path, Ints]]:
    """Each shard with its rows among the slices."""
    order = np.argsort(slices.shard, kind="stable")
    shards, starts = np.unique(slices.shard[order], return_index=True)
    for shard, rows in zip(shards, np.split(slices.row[order], starts[1:]), strict=True):
        yield slices.shards[shard], rows


def _leaked(task: Task[Any], shard: Path, rows: Ints) -> Ints:
    """Numbers of the test codes that are near one of the ``rows`` of a shard."""
    row, code = _near_pairs(task, shard)
    return code[np.isin(row, rows)]


@cache  # the arms of a run share shards; what is kept is small
def _near_pairs(task: Task[Any], shard: Path) -> tuple[Ints, Ints]:
    """Rows of a shard and test codes (p,) that differ in ``NEAR`` bits or fewer."""
    rows, codes = _codes(shard)
    tests = fingerprints(task, "test").codes
    tests = tests[telling(tests)]
    portions = np.array_split(codes, max(1, len(codes) * len(tests) // _AT_ONCE))
    near = np.concatenate([hamming(portion[:, None], tests[None]) <= NEAR for portion in portions])
    row, code = np.nonzero(near)
    return rows[row], code


@cache
def _codes(shard: Path) -> tuple[Ints, NDArray[np.uint64]]:
    """Row numbers (m,) and codes (m, 4) of those slices of a shard whose code is ``telling``."""
    codes = packed(dhash(np.load(shard, mmap_mode="r", allow_pickle=False), SIDE))
    rows = np.flatnonzero(telling(codes))
    return rows, codes[rows]
