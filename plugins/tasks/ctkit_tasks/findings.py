"""What a reader should know of a task's images before believing a score: counts, gaps, and leaks.

Leaks are between its splits, and of test images into the slices that a backbone was pre-trained on.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import PRETRAINING, Ints, Leak, Rows, Split, Task
from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_tasks.fingerprints import NEAR, NONE, SIDE, fingerprints, nearest, telling
from ctkit_tasks.image_files import ImageFiles
from ctkit_tasks.splitting import chained, training_units

log = logging.getLogger(__name__)

_ALIKE = f"{NEAR} or fewer of {SIDE * SIDE} hash bits differ"
_AT_ONCE = 1 << 20  # pairs of codes that are compared at a time, about 16 MB


@dataclass(frozen=True)
class Findings:
    """A task's images in sentences, and its leaks one by one."""

    notes: tuple[str, ...]  #: counts, and how deep images are shown
    warnings: tuple[str, ...]  #: images that are left out, classes that are missing, leaks, units that are large
    leaks: tuple[Leak, ...]  #: between splits


@cache  # a task is evaluated for many arms and seeds
def findings(task: Task[Any]) -> Findings:
    """Read all images once and describe them; leaks are logged as warnings too."""
    splits = task.splits()
    told, leaks = list(_shared_patients(splits)), []
    for one, other in itertools.combinations(splits, 2):
        found, copies = _leaks(task, one, other)
        leaks += found
        told += _sentences(one, other, len(splits[other].names), found, copies)
    for leak in told:
        log.warning("%s", leak)
    left_out, depths = (task.notes, task.depths) if isinstance(task, ImageFiles) else ((), "")
    large = () if "val" in splits else chained(training_units(task), "train")
    warnings = (*left_out, *_gaps(task.classes, splits), *told, *large)
    return Findings((_counts(task.classes, splits), *filter(None, [depths])), warnings, tuple(leaks))


def _counts(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    counts = {name: np.bincount(split.labels, minlength=len(classes)) for name, split in splits.items()}
    return "images: " + "; ".join(
        f"{name} " + ", ".join(f"{count} {label}" for label, count in zip(classes, each, strict=True))
        for name, each in counts.items()
    )


def _gaps(classes: Sequence[str], splits: Mapping[str, Split]) -> Iterator[str]:
    for name, split in splits.items():
        for number, label in enumerate(classes):
            if number not in split.labels:
                follows = "; AUC and average precision are undefined" if name == "test" else ""
                yield f"{name} holds no image of class {label}{follows}"


def _shared_patients(splits: Mapping[str, Split]) -> Iterator[str]:
    for one, other in itertools.combinations(splits, 2):
        theirs = set(splits[other].patients or ())
        if shared := theirs & set(splits[one].patients or ()):
            yield f"{other}: {len(shared)} of {len(theirs)} patients are in {one} as well"


def _leaks(task: Task[Any], one: str, other: str) -> tuple[list[Leak], set[str]]:
    """Leaks of ``other`` into ``one``, and which of its images are copies.

    Each image has its nearest of the same class, and its nearest of other classes, so that no contradiction is missed.
    """
    splits, theirs, ours = task.splits(), fingerprints(task, one), fingerprints(task, other)
    of, into = splits[other], splits[one]
    found, copies = [], set()
    for label, same in itertools.product(np.unique(of.labels), (True, False)):
        asked, known = np.flatnonzero(of.labels == label), np.flatnonzero((into.labels == label) == same)
        distance, number, copied = nearest(ours[asked], theirs[known])
        for i in np.flatnonzero(distance < NONE):
            name, at = of.names[asked[i]], known[number[i]]
            labels = task.classes[label], task.classes[into.labels[at]]
            found.append(Leak("", "", other, name, labels[0], one, into.names[at], labels[1], int(distance[i])))
            copies |= {name} if copied[i] else set()
    return sorted(found), copies


def _sentences(one: str, other: str, images: int, leaks: Sequence[Leak], copies: set[str]) -> Iterator[str]:
    if copies:
        yield f"{other}: {len(copies)} of {images} images are in {one} as well"
    if near := {leak.name for leak in leaks} - copies:
        yield f"{other}: {len(near)} of {images} images nearly equal one in {one} ({_ALIKE})"
    if contradicted := {leak.name for leak in leaks if leak.label != leak.other_label}:
        yield (
            f"{other}: {len(contradicted)} of {images} images equal or nearly equal one in {one} that has another "
            "label: a label is wrong, or what tells them apart is too small for the hash; leaks.csv names them"
        )


def pretraining_leaks(task: Task[Any], slices: Rows | None) -> tuple[Leak, ...]:
    """Test images that nearly equal a slice of ``slices``, each with the nearest, by its number among them."""
    if slices is None or not len(slices):
        return ()
    best: dict[int, tuple[int, int]] = {}
    for shard, rows, numbers in _by_shard(slices):
        for row, test, distance in zip(*_near_pairs(task, shard), strict=True):
            if (at := np.searchsorted(rows, row)) < len(rows) and rows[at] == row:
                best[test] = min(best.get(test, (NONE, 0)), (distance, int(numbers[at])))
    of = task.splits()["test"]
    return tuple(
        Leak("", "", "test", of.names[test], task.classes[of.labels[test]], PRETRAINING, str(number), "", distance)
        for test, (distance, number) in sorted(best.items())
    )


def pretraining_leak(task: Task[Any], leaks: Sequence[Leak]) -> Iterator[str]:
    """Say how many test images leak into the pre-training; nothing where none does."""
    if leaks:
        share = f"{len(leaks)} of {len(task.splits()['test'].names)}"
        yield f"test: {share} images nearly equal a slice that the backbone was pre-trained on ({_ALIKE})"


def _by_shard(slices: Rows) -> Iterator[tuple[Path, Ints, Ints]]:
    """Each shard with its rows among the slices, ascending, and their numbers."""
    order = np.lexsort((slices.row, slices.shard))
    shards, starts = np.unique(slices.shard[order], return_index=True)
    for shard, numbers in zip(shards, np.split(order, starts[1:]), strict=True):
        yield slices.shards[shard], slices.row[numbers], numbers


@cache  # the arms of a run share shards; what is kept is small
def _near_pairs(task: Task[Any], shard: Path) -> tuple[list[int], list[int], list[int]]:
    """Rows of a shard, test images (p,) and the bits that they differ in, ``NEAR`` or fewer."""
    rows, codes = _codes(shard)
    tests = fingerprints(task, "test").codes
    numbers = np.flatnonzero(telling(tests))
    portions = np.array_split(codes, max(1, len(codes) * len(numbers) // _AT_ONCE))
    found = []
    for start, portion in zip(np.cumsum([0, *map(len, portions)]), portions, strict=False):
        apart = hamming(portion[:, None], tests[numbers][None])
        row, test = np.nonzero(apart <= NEAR)
        found.append(np.stack([rows[start + row], numbers[test], apart[row, test]]))
    row, test, distance = np.concatenate(found, axis=1).tolist()
    return row, test, distance


@cache
def _codes(shard: Path) -> tuple[Ints, NDArray[np.uint64]]:
    """Row numbers (m,) and codes (m, 4) of those slices of a shard whose code is ``telling``."""
    codes = packed(dhash(np.load(shard, mmap_mode="r", allow_pickle=False), SIDE))
    rows = np.flatnonzero(telling(codes))
    return rows, codes[rows]
