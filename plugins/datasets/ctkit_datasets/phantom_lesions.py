"""Labelled phantom slices, with a lesion and without, for tasks, tests and trying things out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctkit_datasets.phantom_body import Body, generator
from ctkit_datasets.phantom_scan import Scan

FIRST_PATIENT = 1_000_000  #: number of the first patient; the data set ``phantom`` counts from 0 and stays below
CLASSES = ("healthy", "lesion")
_VISIBLE = 800.0  # mm^2 of lesion that a slice must show to be labelled so


class LesionSlices(NamedTuple):
    """Labelled axial slices."""

    images: NDArray[np.int16]  #: (n, size, size) HU, rows to the back, columns to the patient's left
    labels: NDArray[np.int64]  #: (n,) number of the class in ``CLASSES``
    patients: tuple[str, ...]  #: (n,)


def lesion_slices(
    seed: int, patients: int, size: int, *, slices: int = 2, first_patient: int = FIRST_PATIENT
) -> LesionSlices:
    """Return ``slices`` slices of each of ``patients`` patients; every second patient has a lesion in all of them.

    A pure function of its arguments, and a patient does not depend on how many there are. Slices of healthy patients
    are taken where a lesion might have been, so that nothing but the lesion tells the classes apart.
    """
    images = np.empty((patients, slices, size, size), np.int16)
    for number in range(patients):
        body, heights = _patient_with_lesion(seed, first_patient + number, slices)
        if number % 2 == 0:
            body.lesions = []
        scan = Scan(body, size)
        for i, z in enumerate(heights):
            images[number, i] = scan.slice(z, i)
    labels = np.repeat(np.arange(patients) % 2, slices).astype(np.int64)
    names = tuple(f"phantom-{first_patient + number}" for number in range(patients) for _ in range(slices))
    return LesionSlices(images.reshape(-1, size, size), labels, names)


def _patient_with_lesion(seed: int, number: int, slices: int) -> tuple[Body, list[float]]:
    """Return a patient with one lesion, and heights in mm at which it is well visible."""
    body = Body(seed, number, lesions=20)
    scan = Scan(body, 64)
    rng = generator("lesion slices", seed, number)
    for lesion in body.lesions:
        body.lesions = [lesion]
        heights = (lesion.solid.z + lesion.solid.c * rng.uniform(-0.6, 0.6, slices)).tolist()
        if all(scan.lesions(z).sum() * scan.pixel**2 >= _VISIBLE for z in heights):
            return body, heights
    raise AssertionError(f"none of 20 lesions of phantom patient {number} is visible")
