from __future__ import annotations

import numpy as np

from ctkit.slices.rendering import training
from ctkit_phantom.regions import REGIONS, region_slices
from ctkit_tasks.phantom import CLASSES, PhantomRegions, PhantomRegionsParams, turned

SMALL = PhantomRegionsParams(train=3, val=1, test=2, size=48)


def test_splits_hold_other_patients_and_every_region_once_of_each() -> None:
    splits = PhantomRegions(SMALL).splits()
    patients = [set(split.patients or ()) for split in splits.values()]
    assert [len(found) for found in patients] == [3, 1, 2]
    assert len(set().union(*patients)) == 6
    for split in splits.values():
        assert np.bincount(split.labels).tolist() == [len(split.names) // REGIONS] * REGIONS
    assert len({name for split in splits.values() for name in split.names}) == 36
    assert len(CLASSES) == REGIONS


def test_training_images_are_upright_and_the_others_turned() -> None:
    slices = training(region_slices(0, 6, 48).images, "HU", "hu-window", 48)
    task = PhantomRegions(SMALL)
    assert all(np.array_equal(task.image("train", number), slices[number]) for number in range(18))
    for split, first in (("val", 18), ("test", 24)):
        expected = turned(slices[first + 1], np.random.default_rng([0, first + 1]))
        assert np.array_equal(task.image(split, 1), expected)
        assert not np.array_equal(expected, slices[first + 1])
