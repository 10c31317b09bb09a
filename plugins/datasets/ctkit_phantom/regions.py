"""Phantom slices labelled with the region of the body that they lie in, for tasks and for trying things out."""

from __future__ import annotations

import numpy as np

from ctkit_phantom.body import LENGTH, Body, generator
from ctkit_phantom.lesions import FIRST_PATIENT, LabelledSlices, labelled_slices

REGIONS = 6  #: of equal height, from the lowest to the neck


def region_slices(seed: int, patients: int, size: int) -> LabelledSlices:
    """Return one slice of each region of each of ``patients`` healthy patients, at a random height in it.

    A pure function of its arguments, and a patient does not depend on how many there are.
    """

    def planned(number: int) -> tuple[Body, list[float]]:
        body = Body(seed, FIRST_PATIENT + number)
        within = generator("region slices", body.seed, body.number).uniform(0, 1, REGIONS)
        return body, ((np.arange(REGIONS) + within) * LENGTH / REGIONS).tolist()

    return labelled_slices(patients, np.tile(np.arange(REGIONS), patients), size, planned)
