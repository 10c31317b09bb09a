"""Structural similarity (Wang et al. 2004) of every two slices of a volume, as scikit-image computes it, but batched.

scikit-image's defaults: a uniform window of 7 x 7 pixels, sample covariance, data range 255, windows that lie wholly
inside the image. What depends on one slice is computed once a slice, not once a pair; what is left is one windowed sum
a pair. Pixels are centred, so that windowed sums are whole numbers that float32 holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Floats, Params, knob
from ctkit.errors import DataError
from ctkit_reducers.pairs import PairSimilarity, fetch, place, room, upper

WINDOW = 7  #: pixels
PIXELS = WINDOW * WINDOW
CENTRE = 128
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

AT_ONCE = (32, 4)  #: rows and pairs worked on at a time on the CPU: what stays in its cache
PAIRS = 64  #: worked on at a time on an accelerator
MOST_PIXELS = 1 << 25  #: of kept slices whose terms are held, about 0.9 GB
MEMORY = 2 << 30  #: bytes of an accelerator that rows of all slices may take: so many rows are worked on at a time


class SsimParams(Params):
    """What counts as alike."""

    threshold: float | None = knob(
        None, low=0, high=2, unit="1 - SSIM", description="largest distance between near-duplicates"
    )


class Ssim(PairSimilarity[SsimParams]):
    """Drop a slice when 1 - SSIM to an earlier kept one is at most ``threshold``.

    Constant slices, to which the index gives no meaning, are 0 apart from each other and 1 from the rest.
    """

    version = 2
    most_pixels = MOST_PIXELS

    def similarity(self, grey: NDArray[np.uint8], device: str) -> Floats:
        """Mean structural similarity of every two slices."""
        found = ssim_triangle(grey, device)
        constant = grey.min(axis=(1, 2)) == grey.max(axis=(1, 2))
        found[upper(constant[:, None] ^ constant)] = 0
        found[upper(constant[:, None] & constant)] = 1
        return found

    def between(self, grey: NDArray[np.uint8]) -> Callable[[int, int], float]:
        """Mean structural similarity of two slices."""
        constant, similarity = grey.min(axis=(1, 2)) == grey.max(axis=(1, 2)), ssim_between(grey)
        return lambda i, j: float(constant[i] & constant[j]) if constant[i] | constant[j] else similarity(i, j)


def ssim_between(grey: NDArray[np.uint8]) -> Callable[[int, int], float]:
    """Mean SSIM of any two slices of (n, rows, columns); keeps the terms of first ones, but of neighbours.

    Raises ``DataError`` where a slice is smaller than the window.
    """
    rows, columns = _windows(grey)

    def strips(number: int) -> list[_Strip]:
        tops = range(0, rows, AT_ONCE[0])
        one = grey[number : number + 1]
        return [_Strip.of(one[:, top : top + AT_ONCE[0] + WINDOW - 1], "cpu", 1) for top in tops]

    earlier, current = cache(strips), lru_cache(2)(strips)

    def similarity(i: int, j: int) -> float:
        pairs = zip((current if i == j - 1 else earlier)(i), current(j), strict=True)
        return sum(float(one.similarity(0, slice(1), other)[0]) for one, other in pairs) / (rows * columns)

    return similarity


def _windows(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows and columns of windows inside a slice of (n, rows, columns)."""
    rows, columns = grey.shape[1:]
    if min(rows, columns) < WINDOW:
        raise DataError(f"slices must be at least {WINDOW} x {WINDOW} pixels for SSIM but are {rows} x {columns}")
    return rows - WINDOW + 1, columns - WINDOW + 1


def ssim_triangle(grey: NDArray[np.uint8], device: str = "cpu") -> Floats:
    """Mean SSIM of slices i < j of (n, rows, columns), condensed (n (n - 1) / 2,).

    Raises ``DataError`` where a slice is smaller than the window.

    >>> ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> ssim_triangle(np.stack([ramp, ramp, ramp.T])).round(3).tolist()  # of 0 and 1, 0 and 2, 1 and 2
    [1.0, 0.317, 0.317]
    """
    n, windows = len(grey), _windows(grey)
    strip_rows, pairs = _at_once(n, grey.shape[2], device)
    total = place(np.zeros((n, n)), device)
    for top in range(0, windows[0], strip_rows):
        strip = _Strip.of(grey[:, top : top + strip_rows + WINDOW - 1], device, pairs)
        for i in range(n - 1):
            for j in range(i + 1, n, pairs):
                total[i, j : j + pairs] += strip.similarity(i, slice(j, j + pairs), strip)
        del strip  # before the next one takes as much memory
    mean: Floats = upper(fetch(total)) / (windows[0] * windows[1])
    return mean


def _at_once(n: int, columns: int, device: str) -> tuple[int, int]:
    """Rows of windows and pairs of ``n`` slices that are worked on at a time."""
    if device == "cpu":
        return AT_ONCE
    row = 4 * columns * (6 * n + 8 * PAIRS)  # bytes: six terms of each slice, and what lies between of each pair
    return max(1, MEMORY // row - (WINDOW - 1)), PAIRS


@dataclass(frozen=True)
class _Strip:
    """Some rows of every slice, flat: (n, pixels) centred, and terms (n, windows) of one slice each.

    Windows that reach over the end of a row into the next are computed too, for contiguous sums are fast; ``_inside``
    leaves them out.
    """

    pixels: Any
    columns: int
    sums: Any  #: windowed sums of centred pixels, / 49
    means: Any  #: windowed means of centred pixels, * 49 / 48
    bright: Any  #: windowed means
    luminance: Any  #: bright ** 2 + C1 / 2
    contrast: Any  #: variance + C2 / 2
    inside: Any  #: (windows,) 4 for windows inside their rows, 0 for those that reach over an end

    @classmethod
    def of(cls, grey: NDArray[np.uint8], device: str, at_once: int) -> _Strip:
        """Compute the terms of slices (n, rows, columns), ``at_once`` at a time, for what lies between takes more."""
        n, rows, columns = grey.shape
        windows = rows * columns - (WINDOW - 1) * (columns + 1)
        widths = (rows * columns, *[windows] * 5)
        pixels, *terms = (room(n, width, device) for width in widths)
        for some in (slice(start, start + at_once) for start in range(0, n, at_once)):
            pixels[some] = place(grey[some].reshape(-1, rows * columns) - np.float32(CENTRE), device)
            for whole, part in zip(terms, _terms(pixels[some], columns), strict=True):
                whole[some] = part
        terms.append(place(_inside(rows - WINDOW + 1, columns), device))
        return cls(pixels, columns, *terms)

    def similarity(self, one: int, many: slice, of: _Strip) -> Any:
        """Sum (m,) over windows of the SSIM of slice ``one`` to ``many`` of another strip, or this; each on its own."""
        found = _covariance(self.pixels[one] * of.pixels[many], self.columns, self.sums[one] * of.means[many])
        luminance = self.bright[one] * of.bright[many]
        luminance += C1 / 2
        found *= luminance
        norm = self.luminance[one] + of.luminance[many]
        norm *= self.contrast[one] + of.contrast[many]
        found /= norm
        found *= self.inside
        return found.sum(-1)


def _terms(pixels: Any, columns: int) -> tuple[Any, ...]:
    """What ``_Strip`` keeps of centred pixels (n, rows * columns), field by field from ``sums`` on."""
    means = _windowed(pixels, columns) * (1 / PIXELS)
    bright = means + CENTRE
    luminance = bright * bright + C1 / 2
    unbiased = means * (PIXELS / (PIXELS - 1))
    return means, unbiased, bright, luminance, _covariance(pixels * pixels, columns, means * unbiased)


def _covariance(products: Any, columns: int, product_of_means: Any) -> Any:
    """Windowed sample covariance + C2 / 2 from pixels' products and from sums / 49 * means * 49 / 48."""
    found = _windowed(products, columns)
    found *= 1 / (PIXELS - 1)
    found -= product_of_means
    found += C2 / 2
    return found


def _windowed(flat: Any, columns: int) -> Any:
    """Sums (n, windows) over 7 x 7 pixels of (n, rows * columns), each at its window's first pixel."""
    return _seven(_seven(flat, 1), columns)


def _seven(flat: Any, step: int) -> Any:
    """Sums of 7 values ``step`` apart, in 4 additions: 7 = (2 + 2) + 2 + 1."""
    two = flat[..., :-step] + flat[..., step:]
    windows = flat.shape[-1] - 6 * step
    found = two[..., :windows] + two[..., 2 * step : 2 * step + windows]
    found += two[..., 4 * step : 4 * step + windows]
    found += flat[..., 6 * step :]
    return found


def _inside(windows: int, columns: int) -> NDArray[np.float32]:
    """4 for windows that lie inside their rows, 0 for those that reach over an end; (windows * columns - 6,)."""
    inside = np.zeros((windows, columns), np.float32)
    inside[:, : columns - WINDOW + 1] = 4
    return inside.ravel()[: windows * columns - WINDOW + 1]
