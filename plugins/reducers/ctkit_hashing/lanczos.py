"""Pillow's LANCZOS reduction of 8-bit slices, bit for bit, as two small matrix products.

Pillow rounds its weights to fixed point and sums integers (``Resample.c``), columns first, each pass rounded to 8 bits.
The same sums are exact in 32-bit floats where the weights are cut into two parts, which a matrix product can add up in
any order: a third of Pillow's time for a CT slice.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PRECISION = 22  # bits behind the point of Pillow's weights for 8-bit images
_LOBES = 3
_LOW = 1 << 8  # the lower part of a weight lies between half of this on either side of 0
_EXACT = 1 << 24  # below this, all whole numbers are 32-bit floats
_TRIALS = 4  # images of noise


def reduced(grey: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Resample slices (n, height, width) to (n, rows, columns) as Pillow's ``resize`` with ``LANCZOS`` does."""
    if not _is_pillows(*grey.shape[1:], rows, columns):
        return np.array([_by_pillow(image, rows, columns) for image in grey], np.uint8).reshape(-1, rows, columns)
    return _as_products(grey, rows, columns)


def _by_pillow(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS))


def _as_products(grey: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    count, height, width = grey.shape
    narrow = np.empty((count, columns, height), np.uint8)
    for target, image in zip(narrow, grey, strict=True):
        target[:] = _weighed(image, _weights(width, columns)).T
    small = _weighed(narrow.reshape(-1, height), _weights(height, rows))
    return small.reshape(count, columns, rows).transpose(0, 2, 1)


@lru_cache
def _is_pillows(height: int, width: int, rows: int, columns: int) -> bool:
    """Whether this Pillow gives what the products give, seen on noise: 13 begins tall images with their rows."""
    if not (_is_exact(_weights(width, columns)) and _is_exact(_weights(height, rows))):
        return False
    noise = np.random.default_rng(0).integers(0, 256, (_TRIALS, height, width), np.uint8)
    pillows = np.array([_by_pillow(image, rows, columns) for image in noise])
    return np.array_equal(_as_products(noise, rows, columns), pillows)


def _weighed(pixels: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Resample the rows of ``pixels`` (m, k) with ``weights`` (k, 2, n) to (m, n)."""
    parts = (pixels.astype(np.float32) @ weights.reshape(len(weights), -1)).reshape(len(pixels), *weights.shape[1:])
    sums = parts[:, 0].astype(np.int64) * _LOW + parts[:, 1].astype(np.int64)
    return ((sums + (1 << _PRECISION - 1)) >> _PRECISION).clip(0, 255).astype(np.uint8)


def _is_exact(weights: NDArray[np.float32]) -> bool:
    return bool(255 * np.abs(weights).sum(axis=0).max() < _EXACT)


@lru_cache
def _weights(length: int, wanted: int) -> NDArray[np.float32]:
    """Upper and lower parts (length, 2, wanted) of the weights."""
    weights = _fixed_point(length, wanted)
    low = (weights + _LOW // 2) % _LOW - _LOW // 2
    return np.stack([(weights - low) // _LOW, low], axis=1).astype(np.float32)


def _fixed_point(length: int, wanted: int) -> NDArray[np.int64]:
    """Weights (length, wanted) of ``length`` pixels in each of ``wanted``, as whole numbers."""
    weights = np.zeros((length, wanted), np.int64)
    scale = length / wanted
    stretch = max(scale, 1.0)
    for column in range(wanted):
        centre = (column + 0.5) * scale
        first = max(int(centre - _LOBES * stretch + 0.5), 0)
        last = min(int(centre + _LOBES * stretch + 0.5), length)
        own = [_lanczos((pixel - centre + 0.5) / stretch) for pixel in range(first, last)]
        total = sum(own)
        weights[first:last, column] = [
            int(weight / total * (1 << _PRECISION) + math.copysign(0.5, weight)) for weight in own
        ]
    return weights


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / _LOBES) if -_LOBES <= x < _LOBES else 0.0


def _sinc(x: float) -> float:
    return math.sin(math.pi * x) / (math.pi * x) if x else 1.0
