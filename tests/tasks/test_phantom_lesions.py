from __future__ import annotations

import numpy as np

from ctkit_tasks.phantom import PhantomLesions, PhantomLesionsParams

SMALL = PhantomLesionsParams(train=4, val=2, test=2, size=48)


def test_splits_hold_other_patients_and_both_classes() -> None:
    splits = PhantomLesions(SMALL).splits()
    assert {name: len(split.names) for name, split in splits.items()} == {"train": 8, "val": 4, "test": 4}
    patients = [set(split.patients or ()) for split in splits.values()]
    assert [len(found) for found in patients] == [4, 2, 2]
    assert not set.intersection(*patients)
    assert len(set().union(*patients)) == 8
    for split in splits.values():
        assert np.bincount(split.labels).tolist() == [len(split.names) // 2] * 2
    assert len({name for split in splits.values() for name in split.names}) == 16


def test_images_are_those_of_the_phantom_in_the_window_of_pre_training() -> None:
    from ctkit_phantom.lesions import lesion_slices

    found = lesion_slices(0, 8, 48, slices=2)
    task = PhantomLesions(SMALL)
    for split, number, slice_ in (("train", 3, 3), ("val", 0, 8), ("test", 3, 15)):
        expected = np.rint((np.clip(found.images[slice_].astype(float), -1000, 400) + 1000) * 255 / 1400)
        assert np.array_equal(task.image(split, number), expected.astype(np.uint8))
        assert task.splits()[split].labels[number] == found.labels[slice_]


def test_another_seed_gives_other_images_and_the_same_seed_the_same() -> None:
    again = PhantomLesions(SMALL).image("test", 0)
    assert np.array_equal(PhantomLesions(SMALL).image("test", 0), again)
    other = PhantomLesions(SMALL.model_copy(update={"seed": 1}))
    assert not np.array_equal(other.image("test", 0), again)
