"""What a reader should know of a task's images before believing a score: counts, gaps, and leaks between its splits."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctkit.contracts import Bools, Split, Task, image_of
from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_tasks.image_files import ImageFiles

log = logging.getLogger(__name__)

#: Of 256 bits of the difference hash. Copies that were saved as JPEG or resized mostly differ in fewer, slices of two
#: patients hardly ever.
NEAR = 16
SIDE = 16  #: of the hash: 256 bits
_ROWS = 256  # codes that are compared at a time


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
