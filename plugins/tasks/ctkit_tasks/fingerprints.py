"""Fingerprints of images: what is equal in copies, and alike in near-duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctkit import rendering
from ctkit.contracts import Bools, Ints, Task, image_of
from ctkit_formats.pictures import AT_ONCE
from ctkit_hashing.codes import dhash, hamming, packed

#: Of 256 bits of the difference hash. Copies that were saved as JPEG or resized mostly differ in fewer, slices of two
#: patients hardly ever.
NEAR = 16
#: As ``NEAR``, where images are bound together: links chain, so that they must be surer than a warning. Of slices of
#: five CT scans, copies in JPEG of quality 70, smaller or darker ones differ in at most 12, those of two in 50 or more.
STRICT = 12
SIDE = 16  #: of the hash: 256 bits
NONE = NEAR + 1  #: the distance of what has no near-duplicate
_PAIRS = 1 << 20  # of codes that are compared at a time, about 16 MB

_ImageT = TypeVar("_ImageT")


@dataclass(frozen=True)
class Fingerprints:
    """Of ``n`` images."""

    digests: tuple[bytes | None, ...]  #: (n,) of shape and pixels; None for a blank image
    codes: NDArray[np.uint64]  #: (n, 4) difference hashes
    padded: NDArray[np.uint64] | None = None  #: (n, 4) on a black square, as pre-training sees slices; where known

    def __getitem__(self, numbers: Ints) -> Fingerprints:
        return Fingerprints(tuple(self.digests[number] for number in numbers.tolist()), self.codes[numbers])

    @cached_property
    def groups(self) -> Ints:
        """Number (n,) of each image's group: copies, and images whose hashes differ in at most ``STRICT`` bits.

        Links chain: two images of a group may differ in more.
        """
        by_digest: dict[bytes, int] = {}
        copies = [(by_digest.setdefault(digest, i), i) for i, digest in enumerate(self.digests) if digest]
        known = np.flatnonzero(telling(self.codes))
        codes, first, which = np.unique(self.codes[known], axis=0, return_index=True, return_inverse=True)
        links = [np.array(copies, np.int64).reshape(-1, 2), np.stack([known[first[which.ravel()]], known], axis=1)]
        for start, apart in _distances(codes, codes):
            one, other = np.nonzero(apart <= STRICT)
            links.append(known[first[np.stack([one + start, other], axis=1)]])
        one, other = np.concatenate(links).T
        return connected(one, other, len(self.digests))


def connected(one: Ints, other: Ints, count: int) -> Ints:
    """Number (count,) of the group of each of ``count`` things, of which ``one`` (n,) are linked to ``other`` (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(one), bool), (one, other)), (count, count))
    groups: Ints = connected_components(links, directed=False)[1].astype(int)
    return groups


def telling(codes: NDArray[np.uint64]) -> Bools:
    """Which codes (n, 4) can tell a copy: one of ``NEAR`` bits or fewer is near every other such code."""
    few: Bools = np.bitwise_count(codes).sum(axis=1, dtype=np.int64) <= NEAR
    return ~few


def nearest(asked: Fingerprints, others: Fingerprints) -> tuple[Ints, Ints, Bools]:
    """For each of ``n`` images the nearest of some others: bits that differ, its number, and whether it is a copy.

    ``NONE`` bits where no other is a copy or differs in at most ``NEAR`` bits.
    """
    distance, number = np.full(len(asked.digests), NONE), np.zeros(len(asked.digests), np.int64)
    ours, theirs = np.flatnonzero(telling(asked.codes)), np.flatnonzero(telling(others.codes))
    for start, apart in _distances(asked.codes[ours], others.codes[theirs]):
        rows = ours[start : start + len(apart)]
        distance[rows], number[rows] = apart.min(axis=1), theirs[apart.argmin(axis=1)]
    known = {digest: i for i, digest in reversed(list(enumerate(others.digests))) if digest}
    copies = np.array([digest in known for digest in asked.digests], bool)
    distance[copies], number[copies] = 0, [known[digest] for digest in asked.digests if digest in known]
    return np.minimum(distance, NONE), number, copies


def _distances(codes: NDArray[np.uint64], others: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield Hamming distances (rows, others) of some rows at a time, after the number of the first."""
    step = max(1, _PAIRS // max(1, len(others)))
    for start in range(0, len(codes) if len(others) else 0, step):
        yield start, hamming(codes[start : start + step, None], others[None])


@cache  # about 100 bytes an image
def fingerprints(task: Task[Any], split: str) -> Fingerprints:
    """Read the images of a split once for all comparisons."""
    return fingerprints_of(partial(image_of, task, split), range(len(task.splits()[split].names)))


def fingerprints_of(read: Callable[[_ImageT], NDArray[np.uint8]], images: Sequence[_ImageT]) -> Fingerprints:
    """Read images, grey or colour, and describe them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda image: _fingerprint(read(image)), images))
    codes, padded = np.array([both for _, both in found], np.uint64).reshape(-1, 2, 4).swapaxes(0, 1)
    return Fingerprints(tuple(digest for digest, _ in found), codes, padded)


def _fingerprint(image: NDArray[np.uint8]) -> tuple[bytes | None, NDArray[np.uint64]]:
    """Digest of an image, and its codes (2, 4) as it is and on a black square."""
    grey = np.asarray(Image.fromarray(image).convert("L"))[None]
    square = rendering.fit(grey, max(grey.shape[1:]))
    codes = np.concatenate([packed(dhash(one, SIDE)) for one in (grey, square)])
    if image.min() == image.max():
        return None, codes
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest(), codes
