"""The two ways to show a slice in 8 bits: as evidence for reducers, and as a training image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: Part of the address of everything made of rendered slices: raised when a rendering changes.
VERSION = 1

#: Windows by name: centre and width in HU. ``hu-window`` spans air to contrast-filled vessels.
WINDOWS: dict[str, tuple[float, float]] = {
    "hu-window": (-300, 1400),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "abdomen": (50, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
}

#: Up to here a quotient of whole numbers comes out of 32-bit floats on the same side of every half.
_EXACT_SPAN = 1 << 15


def ends_of(values: NDArray[Any]) -> NDArray[Any]:
    """Lowest and highest value (n, 2) of each slice of (n, rows, columns)."""
    return np.stack([values.min(axis=(1, 2)), values.max(axis=(1, 2))], axis=1)


def evidence(values: NDArray[Any], ends: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Map each slice's minimum..maximum to 0..255, rounded to nearest even; a constant slice becomes 0.

    ``values`` is (n, rows, columns), ``ends`` what ``ends_of`` gives, where that is known. This is the paper's
    rendering: thresholds of evidence mean nothing on another.

    >>> evidence(np.array([[[-1000, 0], [500, 1000]]], np.int16)).tolist()
    [[[0, 128], [191, 255]]]
    """
    grey = np.zeros(values.shape, np.uint8)
    for target, slice_, (low, high) in zip(grey, values, ends_of(values) if ends is None else ends, strict=True):
        if high > low:
            _stretch(slice_, low, high, target)
    return grey


def training(
    values: NDArray[Any],
    unit: Literal["HU", "arbitrary"],
    intensity: str | tuple[float, float],
    size: int,
    span: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Render slices (n, rows, columns) for training as (n, size, size).

    ``intensity`` is a name from ``Intensity`` of ``ctkit.pipeline_file.sections``, or a window's centre and width in
    HU. Values without Hounsfield units have no window: they fill the grey scale from the volume's minimum to its
    maximum, which are ``span`` where these are not all of its slices. Slices that are not square keep their proportions
    on a black ground.

    >>> slices = np.array([[[-1000, -300], [400, 1000]]], np.int16)  # in Hounsfield units
    >>> training(slices, "HU", "hu-window", size=2).tolist()
    [[[0, 128], [255, 255]]]
    >>> training(slices, "HU", (40, 80), size=2).tolist()  # the window of a brain, by centre and width
    [[[0, 0], [255, 255]]]
    """
    return fit(full_matrix(values, unit, intensity, span), size)


def full_matrix(
    values: NDArray[Any], unit: str, intensity: str | tuple[float, float], span: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Render slices (n, rows, columns) for training at their own size, as ``training`` does before it resamples."""
    if intensity == "slice-min-max":
        return evidence(values)
    if unit != "HU" or intensity == "volume-min-max":
        low, high = span or ((values.min(), values.max()) if values.size else (0, 0))
    else:
        centre, width = WINDOWS[intensity] if isinstance(intensity, str) else intensity
        low, high = centre - width / 2, centre + width / 2
    grey = np.zeros(values.shape, np.uint8)
    if high > low:
        for target, slice_ in zip(grey, values, strict=True):
            _stretch(_clipped(slice_, low, high), low, high, target)
    return grey


def fit(slices: NDArray[Any], size: int, ground: float = 0) -> NDArray[Any]:
    """Resample slices (n, rows, columns), uint8 or float32, to (n, size, size): the longer side fills the square.

    What the shorter side leaves free is filled with ``ground``.
    """
    from PIL import Image

    count, rows, columns = slices.shape
    if rows == columns == size:
        return slices
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    top, left = (size - height) // 2, (size - width) // 2
    fitted = np.full((count, size, size), ground, slices.dtype)
    for target, slice_ in zip(fitted, slices, strict=True):
        image = Image.fromarray(slice_).resize((width, height), Image.Resampling.BILINEAR)
        target[top : top + height, left : left + width] = np.asarray(image)
    return fitted


def _clipped(slice_: NDArray[Any], low: Any, high: Any) -> NDArray[Any]:
    """Return the slice within ``low`` to ``high``, in whole numbers where it can be."""
    if _is_short(slice_) and float(low).is_integer() and float(high).is_integer():
        ends = np.iinfo(slice_.dtype)
        if ends.min <= low and high <= ends.max:
            whole: NDArray[Any] = slice_.clip(int(low), int(high))
            return whole
    clipped: NDArray[Any] = np.clip(slice_, low, high, dtype=np.float32, casting="unsafe")
    return clipped


def _stretch(slice_: NDArray[Any], low: Any, high: Any, target: NDArray[np.uint8]) -> None:
    """Write ``(slice_ - low) * 255 / (high - low)``, rounded to nearest even, into ``target``."""
    span = float(high) - float(low)
    exact = _is_short(slice_) and span <= _EXACT_SPAN and float(low).is_integer()
    scaled: NDArray[Any] = slice_.astype(np.float32 if exact else np.float64)
    scaled -= float(low)
    if exact and (factor := _factor(span)) is not None:
        scaled *= factor
    else:
        scaled *= 255
        scaled /= span
    np.rint(scaled, out=scaled)
    np.copyto(target, scaled, casting="unsafe")


@lru_cache(maxsize=1 << 15)
def _factor(span: float) -> np.float32 | None:
    """What to multiply 0, 1, ... ``span`` by for the same results after rounding, None where a quotient is needed."""
    if not span.is_integer():
        return None
    steps, factor = np.arange(int(span) + 1, dtype=np.float32), np.float32(255 / span)
    same = np.array_equal(np.rint(steps * factor), np.rint(steps * 255 / np.float32(span)))
    return factor if same else None


def _is_short(values: NDArray[Any]) -> bool:
    return np.issubdtype(values.dtype, np.integer) and values.dtype.itemsize <= 2
