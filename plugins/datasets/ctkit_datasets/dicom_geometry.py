"""The arithmetic of slices in space. Patient coordinates, mm: x to the left, y to the back, z to the head (LPS)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = Sequence[float]
PLANES: tuple[Literal["sagittal", "coronal", "axial"], ...] = ("sagittal", "coronal", "axial")  # by axis of the normal

# For each axis of the normal: the axis and sign that column numbers, and that row numbers, increase along.
_UPRIGHT = {2: ((0, 1), (1, 1)), 1: ((0, 1), (2, -1)), 0: ((1, 1), (2, -1))}
_SAME_PLACE = 0.01  # mm
_ROUNDED = 0.05  # mm
_UNEVEN = 0.01  # of the median spacing
_WHOLE = 0.1  # of a gap: how near to a multiple of the spacing it must be, to be one that missing slices left
_SHEARED = 0.5  # degrees
_MOVED = 1.0  # mm


@dataclass(frozen=True)
class Turn:
    """How a stored slice is put upright: axial rows run to the back, others to the feet; columns to the left.

    Sagittal columns run to the back.
    """

    transpose: bool = False  #: first exchange rows and columns
    flip_rows: bool = False
    flip_columns: bool = False

    def __bool__(self) -> bool:
        return self.transpose or self.flip_rows or self.flip_columns

    def place(self, position: Vector, cosines: Vector, spacing: Vector, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return the step to the next column, that to the next row, and the first pixel, as columns of (3, 3) in LPS.

        They are those of the upright slice, ``shape`` rows and columns, by what the header says of the stored one
        (PS3.3 section C.7.6.2.1.1).
        """
        down, across = np.array(cosines[3:]) * spacing[0], np.array(cosines[:3]) * spacing[1]
        if self.transpose:
            down, across = across, down
        first = np.array(position, np.float64)
        if self.flip_rows:
            first, down = first + down * (shape[0] - 1), -down
        if self.flip_columns:
            first, across = first + across * (shape[1] - 1), -across
        return np.stack([across, down, first], axis=1)

    def stored_view(self, upright: NDArray[Any]) -> NDArray[Any]:
        """Return a view of an upright slice (rows, columns) in the order of the stored one: write there to turn it."""
        flipped = upright[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return flipped.T if self.transpose else flipped


@dataclass(frozen=True)
class Plane:
    """What the direction cosines of a slice say (PS3.3 section C.7.6.2.1.1)."""

    name: Literal["sagittal", "coronal", "axial"]
    normal: tuple[float, float, float]  #: unit vector to the patient's head, back or left
    turn: Turn

    @classmethod
    def of(cls, cosines: Vector) -> Plane:
        """Return the plane of the direction cosines of a row (three) and of a column (three)."""
        row, column = cosines[:3], cosines[3:]
        normal = np.cross(row, column)
        normal = normal / np.linalg.norm(normal)
        axis = int(np.abs(normal).argmax())
        (across, across_sign), (down, down_sign) = _UPRIGHT[axis]
        transpose = abs(row[across]) < abs(column[across])
        if transpose:
            row, column = column, row
        turn = Turn(transpose, column[down] * down_sign < 0, row[across] * across_sign < 0)
        x, y, z = (normal * math.copysign(1, normal[axis])).tolist()
        return cls(PLANES[axis], (x, y, z), turn)

    def height(self, position: Vector) -> float:
        """Return where a slice lies along the normal, mm."""
        (a, b, c), (x, y, z) = self.normal, position
        return a * x + b * y + c * z

    def place(self, position: Vector) -> tuple[int, ...]:
        """Return where a slice lies beside the normal, to the nearest mm."""
        height = self.height(position)
        return tuple(round(p - height * n) for p, n in zip(position, self.normal, strict=True))


def levels(heights: NDArray[np.float64], thickness: float | None) -> list[int]:
    """Return for each of the heights (n,), mm, the number of the place it is at, counted upwards.

    Headers round: heights are one place where they differ by less than a twentieth of the slices' thickness, but by no
    more than 0.05 mm.
    """
    least = min(_ROUNDED, thickness / 20) if thickness else _SAME_PLACE
    order = np.argsort(heights, kind="stable")
    numbers = np.empty(len(heights), np.int64)
    numbers[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[:1]]) >= least)
    return [int(number) for number in numbers]


def is_even(heights: NDArray[np.float64]) -> bool:
    """Whether ascending heights (n,), mm, are equally far from each other."""
    gaps = np.diff(heights)
    spacing = float(np.median(gaps))
    return bool(np.abs(gaps - spacing).max() <= max(_UNEVEN * spacing, 2 * _SAME_PLACE))


def describe_spacing(heights: NDArray[np.float64]) -> tuple[float | None, list[str]]:
    """Return the median distance of neighbouring slices, mm, and notes on how they deviate from it.

    ``heights`` (n,) ascend, mm.
    """
    if len(heights) < 2:
        return None, []
    gaps = np.diff(heights)
    spacing = float(np.median(gaps))
    steps = gaps / spacing
    holes = (steps > 1.5) & (np.abs(steps - steps.round()) < _WHOLE * steps)
    notes = []
    if holes.any():
        notes.append(f"slices missing: {(steps[holes].round() - 1).sum():.0f}, gaps: {holes.sum()}")
    rest = gaps[~holes]
    if np.abs(rest - spacing).max() > max(_UNEVEN * spacing, _SAME_PLACE):
        notes.append(f"uneven spacing {rest.min():.3g} to {rest.max():.3g} mm")
    return round(spacing, 6), notes


def aslant(positions: NDArray[np.float64], normal: Vector) -> tuple[float, float]:
    """Return the gantry's tilt, degrees, and how far the field of view moves beside it, mm; 0 where there is none.

    ``positions`` (n, 3) are those of the first pixels, in order. The tilt is the angle between the ``normal`` and the
    line that they lie on, or where they lie on none, most steps from slice to slice.
    """
    heights = positions @ np.asarray(normal)
    beside = positions - np.outer(heights, normal)  # (n, 3)
    ups = np.diff(heights)
    up = ups >= _SAME_PLACE
    if not up.any():
        return 0.0, 0.0
    steps = np.diff(beside, axis=0)[up] / ups[up, None]
    for slope in ((beside[-1] - beside[0]) / (heights[-1] - heights[0]), np.median(steps, axis=0)):
        shift = float(np.linalg.norm(np.ptp(beside - np.outer(heights, slope), axis=0)))
        if shift <= _MOVED:
            break
    angle = math.degrees(math.atan(np.linalg.norm(slope)))
    return angle if angle > _SHEARED else 0.0, shift if shift > _MOVED else 0.0
