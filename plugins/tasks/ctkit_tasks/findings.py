"""What a reader should know of a task's images before believing a score: counts, gaps, and leaks.

Leaks are between its splits, and of test images into the slices that a backbone was pre-trained on.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import PRETRAINING, Leak, Rows, Split, Task
from ctkit_hashing.codes import dhash, packed
from ctkit_tasks.fingerprints import NEAR, NONE, SIDE, Fingerprints, fingerprints, nearest
from ctkit_tasks.image_files import ImageFiles
from ctkit_tasks.splitting import chained, training_units

log = logging.getLogger(__name__)

_ALIKE = f"{NEAR} or fewer of {SIDE * SIDE} hash bits differ"


@dataclass(frozen=True)
class Findings:
    """A task's images in sentences, and its leaks one by one."""

    notes: tuple[str, ...]  #: counts, and how deep images are shown
    warnings: tuple[str, ...]  #: images that are left out, classes that are missing, leaks, units that are large
    gaps: tuple[str, ...]  #: of these, the classes that are missing: in the labels, which says nothing of masks
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
    left_out, depths = task.notes, task.depths if isinstance(task, ImageFiles) else ""
    large = () if "val" in splits else chained(training_units(task), "train")
    notes, gaps = (_counts(task.classes, splits), *filter(None, [depths])), tuple(_gaps(task.classes, splits))
    return Findings(notes, (*left_out, *gaps, *told, *large), gaps, tuple(leaks))


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
                yield f"{name} has no image of class {label}{follows}"


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
        yield f"{other}: {len(near)} of {images} images are near-duplicates of one in {one} ({_ALIKE})"
    if contradicted := {leak.name for leak in leaks if leak.label != leak.other_label}:
        yield (
            f"{other}: {len(contradicted)} of {images} images equal or nearly equal one in {one} that has another "
            "label: a label is wrong, or what tells them apart is too small for the hash; leaks.csv names them"
        )


def pretraining_leaks(task: Task[Any], slices: Rows | None) -> tuple[Leak, ...]:
    """Test images that nearly equal a slice of ``slices``, each with the nearest, by its number among them."""
    if slices is None or not len(slices):
        return ()
    of, found = task.splits()["test"], fingerprints(task, "test")
    tests = replace(found, codes=found.codes if found.padded is None else found.padded)
    best, number = np.full(len(of.names), NONE), np.zeros(len(of.names), np.int64)
    order = np.argsort(slices.shard, kind="stable")
    shards, starts = np.unique(slices.shard[order], return_index=True)
    for shard, members in zip(shards, np.split(order, starts[1:]), strict=True):
        codes = _codes(slices.shards[shard])[slices.row[members]]
        distance, near, _ = nearest(tests, Fingerprints((None,) * len(codes), codes))
        closer = distance < best
        best[closer], number[closer] = distance[closer], members[near[closer]]
    return tuple(
        Leak("", "", "test", of.names[i], task.classes[of.labels[i]], PRETRAINING, str(number[i]), "", int(best[i]))
        for i in np.flatnonzero(best < NONE)
    )


def pretraining_leak(task: Task[Any], leaks: Sequence[Leak]) -> Iterator[str]:
    """Say how many test images leak into the pre-training; nothing where none does."""
    if leaks:
        share = f"{len(leaks)} of {len(task.splits()['test'].names)}"
        yield f"test: {share} images are near-duplicates of a slice of the pre-training ({_ALIKE})"


@cache  # the arms of a run share shards
def _codes(shard: Path) -> NDArray[np.uint64]:
    """Codes (rows, 4) of the slices of a shard."""
    return packed(dhash(np.load(shard, mmap_mode="r", allow_pickle=False), SIDE))
