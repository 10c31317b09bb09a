from __future__ import annotations

import numpy as np
import pytest

from ctkit_tasks.fingerprints import NONE, STRICT, Fingerprints, fingerprints_of, nearest
from ctkit_tasks.splitting import chained, hold_out, units_of
from layouts import picture


def prints(codes: np.ndarray) -> Fingerprints:
    return Fingerprints(tuple(bytes([number]) for number in range(len(codes))), codes)


def flipped(code: np.ndarray, bits: int) -> np.ndarray:
    """A code (4,) in which the first ``bits`` of 256 are flipped."""
    flips = np.packbits(np.arange(256) < bits).view(">u8").astype(np.uint64)
    return code ^ flips


@pytest.fixture
def code() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << 63, 4, np.uint64)


def test_the_nearest_is_found_up_to_16_bits(code: np.ndarray) -> None:
    others = prints(np.stack([flipped(code, 30), flipped(code, 16), flipped(code, 17)]))
    asked = Fingerprints((b"x", b"y"), np.stack([code, flipped(code, 80)]))
    distance, number, copies = nearest(asked, others)
    assert (distance.tolist(), number[0], copies.any()) == ([16, NONE], 1, False)
    assert nearest(asked, prints(np.empty((0, 4), np.uint64)))[0].tolist() == [NONE, NONE]


def test_a_copy_is_nearest_though_its_hash_tells_nothing() -> None:
    blank = np.zeros((2, 4), np.uint64)
    distance, number, copies = nearest(Fingerprints((b"b", None), blank), Fingerprints((b"a", b"b"), blank))
    assert (distance.tolist(), number[0], copies.tolist()) == ([0, NONE], 1, [True, False])


def test_links_chain_and_copies_are_bound(code: np.ndarray) -> None:
    chain = [flipped(code, STRICT * step) for step in range(4)]
    blank = np.zeros(4, np.uint64)
    found = Fingerprints(
        (b"0", b"1", b"2", b"3", b"far", b"few", b"few", b"other", None, None),
        np.stack([*chain, flipped(code, 200), blank, blank, blank, blank, blank]),
    ).groups
    groups = sorted(sorted(np.flatnonzero(found == group).tolist()) for group in set(found.tolist()))
    assert groups == [[0, 1, 2, 3], [4], [5, 6], [7], [8], [9]]
    assert len(set(prints(np.stack([code, flipped(code, STRICT + 1)])).groups.tolist())) == 2


def test_bound_units_join_patients_and_keep_the_order_of_names() -> None:
    patients = ["c", "c", "a", "b", "b", "d"]
    labels = np.array([1, 1, 0, 0, 0, 1])
    alone = units_of(list("uvwxyz"), labels, patients)
    assert alone.of_image.tolist() == [2, 2, 0, 1, 1, 3]
    same = units_of(list("uvwxyz"), labels, patients, np.arange(6))
    assert (same.of_image.tolist(), same.bound.any()) == ([2, 2, 0, 1, 1, 3], False)
    bound = units_of(list("uvwxyz"), labels, patients, np.array([0, 1, 2, 3, 4, 1]))  # c and d
    assert bound.of_image.tolist() == [2, 2, 0, 1, 1, 2]
    assert bound.bound.tolist() == [False, False, True]
    assert bound.label.tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(10))
def test_near_duplicates_are_held_out_together(seed: int) -> None:
    images = [picture(number % 2, number // 2, (64, 64)) for number in range(40)]
    images += [np.minimum(image.astype(int) + 2, 255).astype(np.uint8) for image in images[:8]]
    labels = np.array([number % 2 for number in range(40)] + [number % 2 for number in range(8)])
    found = fingerprints_of(images.__getitem__, range(48))
    units = units_of([f"{number:02d}" for number in range(48)], labels, None, found.groups)
    held = hold_out(units, 0.2, seed)
    assert held[:8].tolist() == held[40:].tolist()
    assert len(units.label) == 40


def test_a_unit_of_more_than_5_percent_is_told() -> None:
    labels = np.zeros(40, int)
    names = [f"{number:02d}" for number in range(40)]
    assert list(chained(units_of(names, labels, None, np.arange(40) // 2), "train")) == []
    (told,) = chained(units_of(names, labels, None, np.minimum(np.arange(40), 30)), "train")
    assert told.startswith("train: near-duplicates (12 or fewer of 256 hash bits differ) bind up to 25% of the images")
    assert list(chained(units_of(names, labels, ["p"] * 40, np.arange(40)), "train")) == []
