"""Labelled phantom slices, with a lesion and without, for tasks, tests and trying things out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ctkit_phantom.body import Body, generator
from ctkit_phantom.scan import Scan

FIRST_PATIENT = 1_000_000  #: number of the first patient; the data set ``phantom`` counts from 0 and stays below
CLASSES = ("healthy", "lesion")
AREA = 800.0  #: mm^2 of lesions that a slice shows at least to be labelled so
_HEIGHTS = 110.0, 430.0  # mm, of lungs and liver


class LabelledSlices(NamedTuple):
    """Labelled axial slices."""

    images: NDArray[np.int16]  #: (n, size, size) HU, rows to the back, columns to the patient's left
    labels: NDArray[np.int64]  #: (n,) number of the class
    patients: tuple[str, ...]  #: (n,)


def lesion_slices(
    seed: int, patients: int, size: int, *, slices: int = 2, first_patient: int = FIRST_PATIENT, area: float = AREA
) -> LabelledSlices:
    """Return ``slices`` slices of each of ``patients`` patients; every second patient has lesions in all of them.

    A slice with lesions shows at least ``area`` mm^2 of them or, of patients who have no such slice, the most there is.
    A pure function of its arguments, and a patient does not depend on how many there are. Slices of healthy patients
    are taken where lesions might have been, so that nothing but lesions tells the classes apart.
    """

    def planned(number: int) -> tuple[Body, list[float]]:
        body = Body(seed, first_patient + number, diseased=True)
        heights = _heights_with_lesions(body, slices, area)
        if number % 2 == 0:
            body.lesions = []
        return body, heights

    return labelled_slices(patients, np.repeat(np.arange(patients) % 2, slices), size, planned)


def organ_slices(
    seed: int, patients: int, size: int, slices: int, spacing: float
) -> tuple[LabelledSlices, NDArray[np.uint8], list[float]]:
    """Return a stack of ``slices`` slices, ``spacing`` mm apart, of each patient; every second patient has lesions.

    After them come their masks (n, size, size), with numbers of ``ORGANS``, and the mm from pixel to pixel of each
    patient. Each label is the highest number in the mask. The middle of a stack lies in the liver. A pure function of
    its arguments, and a patient does not depend on how many there are.
    """
    masks: list[NDArray[np.uint8]] = []
    pixels: list[float] = []

    def planned(number: int) -> tuple[Body, list[float]]:
        body = Body(seed, FIRST_PATIENT + number, diseased=number % 2 == 1)
        middle = generator("organ slices", seed, body.number).uniform(160.0, 260.0)
        return body, (middle + spacing * (np.arange(slices) - (slices - 1) / 2)).tolist()

    def look(scan: Scan, heights: list[float]) -> None:
        masks.extend(map(scan.organs, heights))
        pixels.append(scan.pixel)

    found = labelled_slices(patients, np.zeros(patients * slices, np.int64), size, planned, look)
    return found._replace(labels=np.array([mask.max() for mask in masks], np.int64)), np.stack(masks), pixels


def labelled_slices(
    patients: int,
    labels: NDArray[np.int64],
    size: int,
    planned: Callable[[int], tuple[Body, list[float]]],
    look: Callable[[Scan, list[float]], None] = lambda scan, heights: None,
) -> LabelledSlices:
    """Scan the bodies that ``planned`` gives of patient 0, 1, ..., each at its heights in mm. ``look`` sees them."""
    images = np.empty((len(labels), size, size), np.int16)
    names: list[str] = []
    with threadpool_limits(1):  # products of matrices this small only get slower by more threads
        for number in range(patients):
            body, heights = planned(number)
            scan = Scan(body, size)
            for i, z in enumerate(heights):
                images[len(names)] = scan.slice(z, i)
                names.append(f"phantom-{body.number}")
            look(scan, heights)
    return LabelledSlices(images, labels.astype(np.int64), tuple(names))


def _heights_with_lesions(body: Body, count: int, area: float) -> list[float]:
    """Return random heights in mm at which lesions are well visible."""
    scan = Scan(body, 32)
    smaller: list[tuple[float, float]] = []
    heights: list[float] = []
    for z in generator("lesion slices", body.seed, body.number).uniform(*_HEIGHTS, 20 * count).tolist():
        shown = float(scan.lesions(z).sum() * scan.pixel**2)
        if shown >= area:
            heights.append(z)
        else:
            smaller.append((shown, z))
        if len(heights) == count:
            return heights
    return heights + [z for _, z in sorted(smaller, reverse=True)[: count - len(heights)]]
