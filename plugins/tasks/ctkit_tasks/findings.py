"""What a reader should know of a task's images before believing a score: counts, gaps, and leaks between its splits."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctkit.contracts import Bools, Split, Task
from ctkit_reducers.hamming import hamming
from ctkit_reducers.hash import dhash, packed
from ctkit_tasks.image_files import ImageFiles

log = logging.getLogger(__name__)

#: Of 256 bits of the difference hash. Copies that were saved as JPEG or resized mostly differ in fewer, slices of two
#: patients hardly ever.
NEAR = 16
SIDE = 16  #: of the hash: 256 bits
_ROWS = 256  # codes that are compared at a time


@dataclass(frozen=True)
class Fingerprints:
    """The images of a split: what is equal in copies, and what is alike in near-copies. Blank images have none."""

    digests: tuple[bytes | None, ...]  #: (n,) of shape and pixels
    codes: NDArray[np.uint64]  #: (m, 4) difference hashes of the m images that are not blank


@dataclass(frozen=True)
class Findings:
    """A task's images in sentences."""

    notes: tuple[str, ...]  #: counts
    warnings: tuple[str, ...]  #: images that are left out, classes that are missing, leaks between splits


@lru_cache(maxsize=4)  # a task is evaluated for many arms and seeds
def findings(task: Task[Any]) -> Findings:
    """Read all images once and describe them; leaks are logged as warnings too."""
    splits = task.splits()
    leaks = tuple(_leaks(splits, {name: fingerprints(task, name) for name in splits}))
    for leak in leaks:
        log.warning("%s", leak)
    left_out = task.notes if isinstance(task, ImageFiles) else ()
    return Findings((_counts(task.classes, splits),), (*left_out, *_gaps(task.classes, splits), *leaks))


def near_copies(codes: NDArray[np.uint64], others: NDArray[np.uint64]) -> Bools:
    """Which of ``codes`` (n, 4) differ in at most ``NEAR`` bits from one of ``others`` (m, 4)."""
    near = np.zeros(len(codes), bool)
    if len(others):
        for start in range(0, len(codes), _ROWS):
            apart = hamming(codes[start : start + _ROWS, None], others[None])
            near[start : start + _ROWS] = (apart <= NEAR).any(axis=1)
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
        copies, images = sum(digest in known for digest in prints[other].digests), len(splits[other].names)
        if copies:
            yield f"{other}: {copies} of {images} images are in {one} as well"
        near = int(near_copies(prints[other].codes, prints[one].codes).sum()) - copies
        if near:
            alike = f"{NEAR} or fewer of 256 hash bits differ"
            yield f"{other}: {near} of {images} images nearly equal one in {one} ({alike})"


@lru_cache(maxsize=12)
def fingerprints(task: Task[Any], split: str) -> Fingerprints:
    """Read the images of a split once for all comparisons."""
    count = len(task.splits()[split].names)
    with ThreadPoolExecutor() as pool:
        pairs = list(pool.map(partial(_fingerprint, task, split), range(count)))
    codes = [code for _, code in pairs if code is not None]
    return Fingerprints(
        tuple(digest for digest, _ in pairs), np.concatenate(codes) if codes else np.empty((0, 4), np.uint64)
    )


def _fingerprint(task: Task[Any], split: str, number: int) -> tuple[bytes | None, NDArray[np.uint64] | None]:
    image = task.image(split, number)
    if image.min() == image.max():
        return None, None
    digest = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
    grey = np.asarray(Image.fromarray(image).convert("L"))
    return digest, packed(dhash(grey[None], SIDE))
