"""What a reader should know of a task's images before believing a score: counts, gaps, and leaks.

Leaks are between its splits, and of test images into the slices that a backbone was pre-trained on.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctkit.contracts import Bools, Ints, Rows, Split, Task, image_of
from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_tasks.image_files import ImageFiles

log = logging.getLogger(__name__)

#: Of 256 bits of the difference hash. Copies that were saved as JPEG or resized mostly differ in fewer, slices of two
#: patients hardly ever.
NEAR = 16
SIDE = 16  #: of the hash: 256 bits
_ROWS = 256  # codes that are compared at a time
_AT_ONCE = 1 << 20  # pairs of codes that are compared at a time, about 16 MB


@dataclass(frozen=True)
class Fingerprints:
    """The images of a split: what is equal in copies, and what is alike in near-copies."""

    digests: tuple[bytes | None, ...]  #: (n,) of shape and pixels; None for a blank image
    codes: NDArray[np.uint64]  #: (n, 4) difference hashes


@dataclass(frozen=True)
class Findings:
    """A task's images in sentences."""

    notes: tuple[str, ...]  #: counts
    warnings: tuple[str, ...]  #: images that are left out, classes that are missing, leaks between splits


@cache  # a task is evaluated for many arms and seeds
def findings(task: Task[Any]) -> Findings:
    """Read all images once and describe them; leaks are logged as warnings too."""
    splits = task.splits()
    leaks = tuple(_leaks(splits, {name: fingerprints(task, name) for name in splits}))
    for leak in leaks:
        log.warning("%s", leak)
    left_out = task.notes if isinstance(task, ImageFiles) else ()
    return Findings((_counts(task.classes, splits),), (*left_out, *_gaps(task.classes, splits), *leaks))


def telling(codes: NDArray[np.uint64]) -> Bools:
    """Which codes (n, 4) can tell a copy: one of ``NEAR`` bits or fewer is near every other such code."""
    few: Bools = np.bitwise_count(codes).sum(axis=1, dtype=np.int64) <= NEAR
    return ~few


def near_copies(codes: NDArray[np.uint64], others: NDArray[np.uint64]) -> Bools:
    """Which of ``codes`` (n, 4) differ in at most ``NEAR`` bits from one of ``others`` (m, 4), where both can tell."""
    near = np.zeros(len(codes), bool)
    asked, others = np.flatnonzero(telling(codes)), others[telling(others)]
    for start in range(0, len(asked) if len(others) else 0, _ROWS):
        rows = asked[start : start + _ROWS]
        near[rows] = (hamming(codes[rows, None], others[None]) <= NEAR).any(axis=1)
    return near


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


def _leaks(splits: Mapping[str, Split], prints: Mapping[str, Fingerprints]) -> Iterator[str]:
    for one, other in itertools.combinations(splits, 2):
        theirs = set(splits[other].patients or ())
        shared = theirs & set(splits[one].patients or ())
        if shared:
            yield f"{other}: {len(shared)} of {len(theirs)} patients are in {one} as well"
        known = set(prints[one].digests) - {None}
        copied = np.array([digest in known for digest in prints[other].digests], bool)
        copies, images = int(copied.sum()), len(copied)
        if copies:
            yield f"{other}: {copies} of {images} images are in {one} as well"
        near = int((near_copies(prints[other].codes, prints[one].codes) & ~copied).sum())
        if near:
            alike = f"{NEAR} or fewer of 256 hash bits differ"
            yield f"{other}: {near} of {images} images nearly equal one in {one} ({alike})"


@cache  # about 100 bytes an image
def fingerprints(task: Task[Any], split: str) -> Fingerprints:
    """Read the images of a split once for all comparisons."""
    count = len(task.splits()[split].names)
    with ThreadPoolExecutor() as pool:
        pairs = list(pool.map(partial(_fingerprint, task, split), range(count)))
    codes = np.concatenate([np.empty((0, 4), np.uint64), *(code for _, code in pairs)])
    return Fingerprints(tuple(digest for digest, _ in pairs), codes)


def _fingerprint(task: Task[Any], split: str, number: int) -> tuple[bytes | None, NDArray[np.uint64]]:
    image = image_of(task, split, number)
    code = packed(dhash(np.asarray(Image.fromarray(image).convert("L"))[None], SIDE))
    if image.min() == image.max():
        return None, code
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest(), code


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
