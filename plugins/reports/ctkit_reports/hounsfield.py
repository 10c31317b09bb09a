"""Slices in 8 bits that keep Hounsfield units: any window is a table of 256 greys, which the page looks up.

Steps are 2 HU wide in the brain, 5 HU in soft tissue, 13 HU in lung and 17 HU in bone, less than what a grey of the
windows made for them spans, but for brain: its 256 greys would be a third of a HU each, which no scanner measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctkit import rendering
from ctkit.contracts import Dataset, Floats, Ints, Volume

if TYPE_CHECKING:
    from ctkit import RevisitedArm

SIDE = 256  #: pixels
_HU, _CODE = np.array(
    [(-1350, 0), (-1024, 16), (-160, 80), (0, 116), (80, 156), (260, 195), (1300, 255)], np.float64
).T  # corners of the line from HU to codes

#: Windows that the page offers: centre and width in HU.
WINDOWS: dict[str, tuple[float, float]] = {
    "Lung": (-600, 1500),
    "Soft tissue": (50, 400),
    "Bone": (400, 1800),
    "Brain": (40, 80),
}


@dataclass(frozen=True)
class Image:
    """A slice (side, side); ``codes`` of Hounsfield units, or grey levels where the source has none."""

    codes: NDArray[np.uint8]
    is_hu: bool


Images = Mapping[int, Image]  #: by number of the slice in the table


def coded(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Codes of Hounsfield units, of the same shape."""
    codes: NDArray[np.uint8] = np.rint(np.interp(values, _HU, _CODE)).astype(np.uint8)
    return codes


def table(centre: float, width: float) -> Floats:
    """Grey (256,) in 0..1 of each code in a window."""
    grey: Floats = (np.interp(np.arange(256), _CODE, _HU) - centre + width / 2) / width
    return grey.clip(0, 1)


def images(run: RevisitedArm, slices: Ints) -> Images:
    """Images of slices (m,), by number, of those that can still be read; decoded in worker processes."""
    volumes = np.unique(run.volume[slices]).tolist()

    def wanted() -> Iterator[_Wanted]:
        for number in volumes:
            own = slices[run.volume[slices] == number]
            numbers = dict(zip(run.index[own].tolist(), own.tolist(), strict=True))
            yield _Wanted(run.pseudonym(number), run.volumes[number], numbers, run.span(number))

    found: dict[int, Image] = {}
    for _, read in run.each_volume("pictures", _read, wanted(), total=len(volumes), name=lambda item: item.digest):
        found.update(read or {})
    return found


@dataclass(frozen=True)
class _Wanted:
    """Slices of a volume."""

    digest: str
    volume: Volume
    numbers: Mapping[int, int]  #: in the table, by number in the volume
    span: tuple[float, float]


def _read(dataset: Dataset[Any], item: _Wanted) -> Images:
    """Images of some slices of a volume, by number in the table. Runs in a worker process."""
    pixels = dataset.read(item.volume, np.array(sorted(item.numbers), np.int64))
    is_hu = pixels.unit == "HU"
    if is_hu:
        shown = coded(rendering.fit(pixels.values.astype(np.float32), SIDE, ground=_HU[0]))  # air around
    else:
        grey = rendering.full_matrix(pixels.values, pixels.unit, "volume-min-max", item.span)
        shown = rendering.fit(grey, SIDE)
    return {item.numbers[index]: Image(codes, is_hu) for index, codes in zip(pixels.index.tolist(), shown, strict=True)}
