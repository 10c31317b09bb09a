from __future__ import annotations

import numpy as np

from ctkit_phantom.regions import REGIONS, region_slices


def test_a_patient_does_not_depend_on_how_many_there_are_nor_do_regions_on_the_seed_of_another() -> None:
    few, many, other = region_slices(0, 1, 32), region_slices(0, 2, 32), region_slices(1, 1, 32)
    assert np.array_equal(few.images, many.images[:REGIONS])
    assert not np.array_equal(few.images, other.images)


def test_regions_lie_from_the_lowest_to_the_neck() -> None:
    shown = region_slices(0, 4, 64)
    body = (shown.images > -300).sum(axis=(1, 2)).reshape(4, REGIONS)  # pixels that are no air
    assert (body[:, 0] > body[:, -1]).all()  # a belly is wider than a neck
