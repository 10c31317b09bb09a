from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ctkit_tasks.splitting import hold_out, label_subset, units_of

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


def names_of(count: int) -> list[str]:
    return [f"image-{number:03d}" for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 99), shares=st.tuples(st.floats(0.001, 1), st.floats(0.001, 1)))
def test_label_subsets_are_nested_and_class_balanced(
    labels: np.ndarray, seed: int, shares: tuple[float, float]
) -> None:
    names = names_of(len(labels))
    small, large = (label_subset(names, labels, share, seed) for share in sorted(shares))
    assert set(small) <= set(large)
    wanted = max(round(min(shares) * len(labels)), len(set(labels.tolist())))
    assert len(small) == wanted
    counts = np.bincount(labels[small], minlength=4)
    exhausted = counts == np.bincount(labels, minlength=4)
    assert counts[~exhausted].size == 0 or counts.max() - counts[~exhausted].min() <= 1


def test_the_whole_share_is_every_image() -> None:
    labels = np.array([0, 1, 1, 2, 0])
    assert label_subset(names_of(5), labels, 1.0, 3).tolist() == [0, 1, 2, 3, 4]


def test_draws_follow_names_and_not_the_order_of_the_images() -> None:
    names, labels = names_of(40), np.arange(40) % 3
    patients = [f"patient-{number // 4}" for number in range(40)]
    order = np.random.default_rng(0).permutation(40)
    shuffled = [names[number] for number in order]
    subset = {names[number] for number in label_subset(names, labels, 0.3, 5)}
    assert {shuffled[number] for number in label_subset(shuffled, labels[order], 0.3, 5)} == subset
    held = hold_out(units_of(names, labels, patients), 0.3, 5)
    again = hold_out(units_of(shuffled, labels[order], [patients[number] for number in order]), 0.3, 5)
    assert np.array_equal(again, held[order])


def test_another_seed_draws_others() -> None:
    labels = np.arange(60) % 2
    units = units_of(names_of(60), labels, None)
    assert not np.array_equal(hold_out(units, 0.3, 0), hold_out(units, 0.3, 1))
    assert label_subset(names_of(60), labels, 0.2, 0).tolist() != label_subset(names_of(60), labels, 0.2, 1).tolist()


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, patients=st.integers(1, 12), seed=st.integers(0, 99))
def test_held_out_patients_are_whole_and_of_every_class_that_can_spare_one(
    labels: np.ndarray, patients: int, seed: int
) -> None:
    owners = [f"patient-{number % patients}" for number in range(len(labels))]
    units = units_of(names_of(len(labels)), labels, owners)
    held = hold_out(units, 0.2, seed)
    assert not {owner for owner, out in zip(owners, held, strict=True) if out} & {
        owner for owner, out in zip(owners, held, strict=True) if not out
    }
    for label in set(units.label.tolist()):
        drawn = held[np.isin(units.of_image, np.flatnonzero(units.label == label))]
        several = np.count_nonzero(units.label == label) > 1
        assert drawn.any() == several
        assert not drawn.all()


def test_a_patient_counts_to_the_class_most_of_their_images_have() -> None:
    units = units_of(names_of(5), np.array([0, 1, 1, 0, 1]), ["b", "b", "b", "a", "a"])
    assert units.label.tolist() == [0, 1]  # a has one of each, b two of class 1
    assert units.of_image.tolist() == [1, 1, 1, 0, 0]
    assert not units.single_images
    assert units_of(names_of(3), np.zeros(3, int), None).single_images
