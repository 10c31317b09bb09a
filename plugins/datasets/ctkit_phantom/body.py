"""The body that the phantom scans: simple solids from the abdomen to the neck, varied from patient to patient.

The body lives in standard coordinates in mm: x to the patient's left, y to the back, z from the abdomen (0) to the neck
(``LENGTH``). A patient is a scaled, shifted, smoothly warped and jittered copy of it, so that organs differ between
patients and change smoothly along z. Everything is a pure function of (seed, patient number, z).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

LENGTH = 600.0  #: mm of body there are

_Purpose = Literal[
    "body", "fields", "noise", "place of noise", "first slice", "disease", "lesion slices", "region slices",
    "organ slices",
]  # fmt: skip


def generator(purpose: _Purpose, *numbers: int) -> np.random.Generator:
    """Return the random numbers for one purpose, which no other purpose shares: seed and patient, and more."""
    return np.random.default_rng([get_args(_Purpose).index(purpose) + 1, *numbers])


# --- solids -------------------------------------------------------------------------------------------------------


class Section(NamedTuple):
    """The ellipse in which a slice cuts a solid: centre and semi-axes in mm, turn in radians, tissue."""

    x: float
    y: float
    a: float
    b: float
    turn: float
    tissue: str


@dataclass(frozen=True)
class Ellipsoid:
    """A solid given by centre and semi-axes in mm, turned about z by ``turn`` degrees."""

    tissue: str
    x: float
    y: float
    z: float
    a: float
    b: float
    c: float
    turn: float = 0.0

    def section(self, z: float) -> Section | None:
        """Return the ellipse at height ``z``, None where the solid does not reach."""
        inside = 1.0 - ((z - self.z) / self.c) ** 2
        if inside <= 0.0:
            return None
        shrink = inside**0.5
        return Section(self.x, self.y, self.a * shrink, self.b * shrink, np.radians(self.turn), self.tissue)

    def varied(self, rng: np.random.Generator) -> Ellipsoid:
        """Return a copy as another person might have it."""
        dx, dy, dz = rng.normal(0.0, (3.0, 3.0, 6.0))
        a, b, c = rng.uniform(0.85, 1.15, 3)
        return replace(
            self, x=self.x + dx, y=self.y + dy, z=self.z + dz, a=self.a * a, b=self.b * b, c=self.c * c,
            turn=self.turn + rng.normal(0.0, 4.0),
        )  # fmt: skip


@dataclass(frozen=True)
class Tube:
    """A solid along z, given by knots (z, x, y, a, b) in mm between which it is interpolated."""

    tissue: str
    knots: tuple[tuple[float, float, float, float, float], ...]

    def section(self, z: float) -> Section | None:
        """Return the ellipse at height ``z``, None where the solid does not reach."""
        if not self.knots[0][0] <= z <= self.knots[-1][0]:
            return None
        heights, *rest = zip(*self.knots, strict=True)
        x, y, a, b = (float(np.interp(z, heights, values)) for values in rest)
        return Section(x, y, a, b, 0.0, self.tissue)

    def varied(self, rng: np.random.Generator) -> Tube:
        """Return a copy as another person might have it."""
        dx, dy = rng.normal(0.0, 2.0, 2)
        wide = rng.uniform(0.85, 1.2)
        return replace(self, knots=tuple((z, x + dx, y + dy, a * wide, b * wide) for z, x, y, a, b in self.knots))


Solid = Ellipsoid | Tube


def _both(tissue: str, x: float, y: float, z: float, a: float, b: float, c: float, turn: float = 0.0) -> list[Solid]:
    return [Ellipsoid(tissue, side * x, y, z, a, b, c, side * turn) for side in (-1, 1)]


#: (z, a, b) semi-axes of the outline in mm: abdomen, chest, shoulders, neck
OUTLINE = np.array(
    [(0, 160, 112), (120, 164, 114), (220, 168, 114), (330, 172, 116), (420, 180, 112), (470, 200, 102),
     (505, 202, 88), (530, 128, 76), (555, 76, 66), (600, 62, 64)], float,
)  # fmt: skip
#: (z, a, b, y) of the space inside the rib cage and the wall of the abdomen
INSIDE = np.array(
    [(0, 130, 84, 2), (120, 135, 88, 0), (235, 137, 91, -2), (300, 136, 93, -2), (380, 131, 91, -2), (430, 113, 77, 4),
     (462, 87, 57, 14), (482, 53, 37, 22), (494, 6, 6, 26)], float,
)  # fmt: skip
#: (z, a, b, y) of the space for the lungs, closed at the diaphragm and at their apex
CHEST = np.array(
    [(185, 30, 20, 60), (200, 96, 66, 24), (235, 128, 84, 4), (300, 133, 90, -2), (380, 128, 88, -2),
     (430, 110, 74, 4), (462, 84, 54, 14), (482, 50, 34, 22), (494, 4, 4, 26)], float,
)  # fmt: skip
#: (z, mm) half width of the mediastinum between the lungs
MEDIASTINUM = np.array([(185, 20), (260, 18), (330, 20), (400, 26), (430, 30), (494, 34)], float)

#: In the order of painting; what comes later lies on top
ABDOMEN: list[Solid] = [
    Ellipsoid("fat", 55, -2, 160, 84, 84, 92),
    Ellipsoid("muscle", -24, 64, 40, 17, 18, 110), Ellipsoid("muscle", 24, 64, 40, 17, 18, 110),
    Ellipsoid("liver", -62, -6, 165, 74, 78, 98, 8), Ellipsoid("liver", 8, -50, 185, 66, 34, 55, 14),
    Ellipsoid("spleen", 98, 42, 180, 30, 44, 58, 20),
    Ellipsoid("stomach", 58, -32, 185, 46, 42, 58, -25), Ellipsoid("gas", 58, -54, 188, 26, 14, 40),
    Ellipsoid("pancreas", 18, -8, 112, 56, 13, 20, -18), Ellipsoid("bile", -52, -46, 105, 15, 20, 30),
    *_both("kidney", 66, 48, 88, 27, 32, 56, -30), *_both("pelvis", 58, 44, 88, 11, 14, 30, -30),
]  # fmt: skip
CHEST_ORGANS: list[Solid] = [
    Ellipsoid("heart", 26, -34, 300, 64, 52, 64, 30), Ellipsoid("blood", 40, -22, 292, 28, 20, 40, 35),
    Ellipsoid("blood", -4, -48, 305, 30, 22, 42, 20), Ellipsoid("blood", 6, 0, 325, 34, 16, 24),
    Ellipsoid("blood", 2, -8, 368, 58, 10, 13, -6), Ellipsoid("blood", 16, -32, 374, 15, 24, 24, 20),
    Ellipsoid("blood", 4, 6, 412, 42, 12, 13, 55),
    Tube("blood", ((335, -6, -18, 14, 14), (408, -18, -26, 15, 15))),
    Tube("blood", ((345, -34, -16, 10, 9), (440, -30, -22, 8, 8), (520, -28, -14, 6, 7), (600, -32, -8, 6, 6))),
    Tube("blood", ((420, 16, -14, 6, 6), (520, 28, -14, 6, 7), (600, 32, -8, 6, 6))),
]  # fmt: skip
THROUGHOUT: list[Solid] = [
    Tube("blood", ((0, 8, 26, 10, 10), (200, 14, 30, 11, 11), (260, 24, 40, 11, 11), (408, 24, 36, 12, 12))),
    Tube("blood", ((0, -22, 26, 12, 10), (200, -24, 16, 13, 11), (268, -22, 2, 13, 12))),
    Tube("muscle", ((200, 4, 22, 8, 6), (400, 4, 28, 7, 6), (600, 3, 20, 8, 6))),
    Tube("gas", ((340, -38, 8, 5, 5), (385, -8, 12, 8, 7), (392, 0, 12, 9, 8))),
    Tube("gas", ((340, 40, 10, 5, 5), (385, 8, 12, 8, 7), (392, 0, 12, 9, 8))),
    Tube("gas", ((392, 0, 12, 9, 8), (480, 0, 2, 9, 9), (540, 0, -18, 9, 10), (600, 0, -26, 12, 10))),
    *_both("thyroid", 17, -14, 530, 9, 12, 24, 10),
]  # fmt: skip
BONES: list[Solid] = [
    Tube("bone", ((262, 0, -98, 4, 4), (275, 0, -98, 14, 6), (420, 0, -92, 20, 7), (448, 0, -74, 26, 7))),
    *_both("bone", 112, 66, 425, 6, 44, 62, 38), *_both("bone", 132, 40, 470, 22, 9, 28, -20),
    *_both("bone", 62, -46, 478, 56, 7, 12, 24), *_both("bone", 160, 12, 486, 22, 22, 30),
]  # fmt: skip

# --- a patient ----------------------------------------------------------------------------------------------------


class Field:
    """Smooth Gaussian noise of unit variance in the body: white noise on a grid, seen through cubic B-splines."""

    def __init__(self, rng: np.random.Generator, spacing: float, reach: float = 260.0) -> None:
        count = int(2 * reach / spacing) + 5
        high = int(LENGTH / spacing) + 5
        self.spacing, self.reach = spacing, reach
        self.grid = rng.standard_normal((high, count, count), np.float32) * np.float32(3.0)

    def weights(self, places: Image) -> Image:
        """Return what each grid line contributes at ``places`` (n,) in mm: (n, lines)."""
        distance = np.abs((places[:, None] + self.reach) / self.spacing + 1.0 - np.arange(self.grid.shape[1]))
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6
        return np.asarray(np.where(distance < 1.0, near, far), np.float32)

    def at(self, z: float, rows: Image, columns: Image) -> Image:
        """Return the field at height ``z`` for the ``weights`` of rows and columns: (rows, columns)."""
        line, t = divmod(min(max(z, 0.0), LENGTH) / self.spacing, 1.0)
        taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        four = self.grid[int(line) : int(line) + 4]
        plane = (np.array(taps, np.float32) / 6 @ four.reshape(4, -1)).reshape(four.shape[1:])
        return np.asarray(rows @ plane @ columns.T)


@dataclass(frozen=True)
class Lesion:
    """A rounded mass in an organ, in standard coordinates."""

    solid: Ellipsoid
    organ: Literal["lung", "liver"]
    hu: float  #: above the organ
    mottle: float  #: HU by which its inside varies
    ragged: float  #: mm by which its edge varies


class Body:
    """One patient: build, tissues in HU, organs, noise of the scan, and 6 to 12 lesions if ``diseased``."""

    def __init__(self, seed: int, number: int, diseased: bool = False) -> None:
        rng = generator("body", seed, number)
        self.seed, self.number = seed, number
        self.scale = rng.normal(1.0, 0.05, 2).clip(0.88, 1.12)  # x, y
        self.shift = rng.normal(0.0, 6.0, 2)  # mm
        self.fat = rng.uniform(6.0, 26.0)  # mm under the skin
        self.noise = rng.uniform(9.0, 26.0)  # HU, standard deviation
        self.table = rng.uniform(6.0, 16.0)  # mm below the back
        self.ribs = rng.uniform(0.0, 1.0)  # height of the first rib, in distances between ribs
        self.tissues = _tissues(rng)
        self.organs = {
            part: [solid.varied(rng) for solid in solids]
            for part, solids in (("abdomen", ABDOMEN), ("chest", CHEST_ORGANS), ("all", THROUGHOUT), ("bones", BONES))
        }
        self.lesions = [_lesion(rng) for _ in range(rng.integers(6, 13))] if diseased else []

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Noise that bends x and y, and shapes what is not solid."""
        rng = generator("fields", self.seed, self.number)
        return {
            "bend x": Field(rng, 60.0),
            "bend y": Field(rng, 60.0),
            "threads": Field(rng, 19.0),  # where this and the next are both zero, vessels run through the lungs
            "other threads": Field(rng, 19.0),
            "loops": Field(rng, 24.0),  # of bowel, and the sheets of fat between muscles
            "grain": Field(rng, 9.0, reach=210.0),  # of lungs and lesions
        }


def _tissues(rng: np.random.Generator) -> dict[str, float]:
    contrast = rng.uniform(0.0, 1.0)  # how much contrast agent there is
    means = {
        "lung": rng.uniform(-885.0, -800.0), "skin": 10.0, "fat": -100.0, "muscle": 52.0 + 8 * contrast,
        "liver": 58.0 + 50 * contrast, "spleen": 48.0 + 60 * contrast, "stomach": 20.0, "gas": -960.0,
        "pancreas": 38.0 + 50 * contrast, "bile": 8.0, "kidney": 32.0 + 120 * contrast, "pelvis": 8.0 + 60 * contrast,
        "heart": 46.0 + 60 * contrast, "blood": 44.0 + 170 * contrast, "thyroid": 100.0 + 40 * contrast,
        "bone": 420.0, "disc": 80.0,
    }  # fmt: skip
    return {tissue: hu + float(rng.normal(0.0, 5.0)) for tissue, hu in means.items()}


def _lesion(rng: np.random.Generator) -> Lesion:
    a, b, c = rng.uniform(16.0, 36.0) * rng.uniform(0.8, 1.2, 3)
    turn = rng.uniform(0.0, 180.0)
    if rng.random() < 0.8:
        side = rng.choice((-1.0, 1.0))
        place = Ellipsoid("", side * rng.uniform(45, 105), rng.uniform(-55, 60), rng.uniform(240, 440), a, b, c, turn)
        return Lesion(place, "lung", rng.uniform(220.0, 840.0), rng.uniform(50.0, 160.0), rng.uniform(1.0, 5.0))
    place = Ellipsoid("", rng.uniform(-110, -20), rng.uniform(-50, 50), rng.uniform(100, 240), a, b, c, turn)
    return Lesion(place, "liver", rng.uniform(-90.0, -30.0), rng.uniform(8.0, 25.0), rng.uniform(1.0, 4.0))
