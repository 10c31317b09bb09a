"""Phantom slices labelled with the region of the body that they lie in, for tasks and for trying things out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ctkit_phantom.body import LENGTH, Body, generator
from ctkit_phantom.lesions import FIRST_PATIENT
from ctkit_phantom.scan import Scan

REGIONS = 6  #: of equal height, from the lowest to the neck


class RegionSlices(NamedTuple):
    """Labelled axial slices."""

    images: NDArray[np.int16]  #: (n, size, size) HU, rows to the back, columns to the patient's left
    labels: NDArray[np.int64]  #: (n,) number of the region
    patients: tuple[str, ...]  #: (n,)


def region_slices(seed: int, patients: int, size: int, *, first_patient: int = FIRST_PATIENT) -> RegionSlices:
    """Return one slice of each region of each of ``patients`` healthy patients, at a random height in it.

    A pure function of its arguments, and a patient does not depend on how many there are.
    """
    images = np.empty((patients, REGIONS, size, size), np.int16)
    with threadpool_limits(1):  # products of matrices this small only get slower by more threads
        for number in range(patients):
            body = Body(seed, first_patient + number)
            scan = Scan(body, size)
            within = generator("region slices", body.seed, body.number).uniform(0, 1, REGIONS)
            for region, z in enumerate(((np.arange(REGIONS) + within) * LENGTH / REGIONS).tolist()):
                images[number, region] = scan.slice(z, region)
    labels = np.tile(np.arange(REGIONS), patients).astype(np.int64)
    names = tuple(f"phantom-{first_patient + number}" for number in range(patients) for _ in range(REGIONS))
    return RegionSlices(images.reshape(-1, size, size), labels, names)
