"""Axial CT slices through a phantom body, in Hounsfield units."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ctkit_phantom.body import CHEST, INSIDE, LENGTH, MEDIASTINUM, OUTLINE, Body, Image, Lesion, Section, generator

AIR = -1000.0  #: HU
_BEND = 5.0  # mm by which a body is bent, standard deviation
_VERTEBRA = 27.0  # mm from one disc to the next
_RIB = 24.0  # mm from one rib to the next

ORGANS = ("background", "lung", "liver", "lesion")  #: in the order of the numbers in ``Scan.organs``

Box = tuple[slice, slice]


class Scan:
    """A scanner's view of a body: ``size`` x ``size`` pixels of ``pixel`` mm, rows to the back, columns to the left."""

    def __init__(self, body: Body, size: int) -> None:
        self.body = body
        self.size = size
        self.pixel = 420.0 * float(max(body.scale)) / size  # mm
        places = (np.arange(size) + 0.5 - size / 2) * self.pixel
        x, y = ((places - shift) / scale for shift, scale in zip(body.shift, body.scale, strict=True))
        self.y, self.x = y.astype(np.float32)[:, None], x.astype(np.float32)[None, :]

    def slice(self, z: float, number: int) -> NDArray[np.int16]:
        """Return the slice at height ``z`` mm: (size, size) HU. Its noise depends on ``number`` as well."""
        row, column = generator("place of noise", self.body.seed, self.body.number, number).integers(0, self.size, 2)
        noise = self._noise[row : row + self.size, column : column + self.size]
        falls_off = np.float32(1.3) - np.minimum((self.x / 280.0) ** 2 + (self.y / 180.0) ** 2, 0.7)
        image = _Canvas(self, z).finished().image + noise * falls_off
        return np.asarray(np.rint(image.clip(-1024.0, 3071.0)), np.int16)

    def lesions(self, z: float) -> NDArray[np.bool_]:
        """Return where lesions are in the slice at height ``z`` mm: (size, size)."""
        return _Canvas(self, z).finished().mask

    def organs(self, z: float) -> NDArray[np.uint8]:
        """Return what of ``ORGANS`` each pixel shows in the slice at height ``z`` mm, as its number: (size, size)."""
        canvas = _Canvas(self, z)
        lung = (canvas.lung > 0.5) & (canvas.image > -950.0) & (canvas.image < -300.0)  # others are painted over it
        liver = canvas.liver((slice(None), slice(None)))
        return np.select([canvas.finished().mask, liver, lung], [3, 2, 1], 0).astype(np.uint8)

    def field(self, name: str, z: float) -> Image:
        """Return one of the body's fields as this scan samples it: (size, size)."""
        return self.body.fields[name].at(z, *self._weights[name])

    @cached_property
    def _weights(self) -> dict[str, tuple[Image, Image]]:
        fields = self.body.fields.items()
        return {name: (field.weights(self.y.ravel()), field.weights(self.x.ravel())) for name, field in fields}

    @cached_property
    def _noise(self) -> Image:
        """A periodic plane of noise in HU, twice each way: a ramp filter that a soft kernel takes down again.

        Each slice takes it from another place, which is cheaper than noise of its own and looks the same.
        """
        y, x = np.fft.fftfreq(self.size, self.pixel)[:, None], np.fft.rfftfreq(self.size, self.pixel)[None, :]
        frequency = np.hypot(x, y)  # per mm
        white = generator("noise", self.body.seed, self.body.number).standard_normal((self.size, self.size))
        shape = np.sqrt(frequency + 0.01) * np.exp(-((frequency / 0.22) ** 2))
        plane = np.fft.irfft2(np.fft.rfft2(white) * shape, s=white.shape)
        return np.tile((plane * (self.body.noise / plane.std())).astype(np.float32), (2, 2))


class _Canvas:
    """One slice, painted from the outside in, lesions when it is ``finished``. Coordinates are the body's, in mm."""

    def __init__(self, scan: Scan, z: float) -> None:
        self.scan, self.body, self.z = scan, scan.body, z
        self.blur = max(scan.pixel, 1.4)  # mm over which an edge is smooth
        self.x = scan.x + np.float32(_BEND) * scan.field("bend x", z)
        self.y = scan.y + np.float32(_BEND) * scan.field("bend y", z)
        self.image: Image = np.full((scan.size, scan.size), AIR, np.float32)  # HU
        self.lung: Image = np.zeros_like(self.image)  # share of each pixel
        self.mask: NDArray[np.bool_] = np.zeros(self.image.shape, np.bool_)  # of lesions
        self._table()
        self._trunk()
        self._organs()
        self._bones()

    def finished(self) -> _Canvas:
        """Paint the lesions."""
        for lesion in self.body.lesions:
            self._lesion(lesion)
        return self

    # --- painting -------------------------------------------------------------------------------------------------

    def _box(self, section: Section, wider: float = 0.0) -> Box:
        """Return the rows and columns that an ellipse, ``wider`` by some mm, may touch."""
        longest = max(section.a, section.b) if section.turn else 0.0
        margin = wider + 2.5 * _BEND + self.blur
        return (
            _between(self.scan.y.ravel(), section.y, max(section.b, longest) + margin),
            _between(self.scan.x.ravel(), section.x, max(section.a, longest) + margin),
        )

    def _depth(self, section: Section, box: Box, square: float = 0.0) -> Image:
        """Return how many mm, about, each pixel lies inside an ellipse whose diagonals ``square`` 0..1 swells."""
        x, y = self.x[box] - np.float32(section.x), self.y[box] - np.float32(section.y)
        if section.turn:
            cos, sin = np.float32(np.cos(section.turn)), np.float32(np.sin(section.turn))
            x, y = cos * x + sin * y, cos * y - sin * x
        x *= np.float32(1.0 / section.a)
        y *= np.float32(1.0 / section.b)
        x *= x
        y *= y
        radius = np.sqrt(x + y - np.float32(square) * np.minimum(x, 1.5) * np.minimum(y, 1.5) if square else x + y)
        return np.asarray((np.float32(1.0) - radius) * np.float32(min(section.a, section.b)))

    def _cover(self, depth: Image) -> Image:
        """Return the share of each pixel that lies inside an edge, from its depth below it in mm."""
        cover = depth * np.float32(1.0 / self.blur)
        cover += np.float32(0.5)
        return np.asarray(np.minimum(np.maximum(cover, 0.0, out=cover), 1.0, out=cover))

    def _lay(self, box: Box, cover: Image, hu: Image | float) -> None:
        part = self.image[box]
        part += cover * (hu - part)

    def _fill(self, section: Section, hu: float) -> None:
        if min(section.a, section.b) > 0.5:
            box = self._box(section)
            self._lay(box, self._cover(self._depth(section, box)), hu)

    def _along(self, table: NDArray[np.float64]) -> list[float]:
        """Return a table's columns at this height."""
        return [float(np.interp(self.z, table[:, 0], column)) for column in table.T[1:]]

    @cached_property
    def _loops(self) -> Image:
        return self.scan.field("loops", self.z)

    @cached_property
    def _grain(self) -> Image:
        return self.scan.field("grain", self.z)

    # --- parts ----------------------------------------------------------------------------------------------------

    def _table(self) -> None:
        """Paint the table: a shallow shell with foam in it, which does not bend with the body."""
        bow = self.scan.x**2
        depth = self.scan.y - (120.0 + self.body.table - bow / 2600.0)
        thick = 26.0 - bow / 1500.0
        everything = slice(None), slice(None)
        self._lay(everything, self._cover(np.minimum(depth, thick - depth)), -260.0)
        self._lay(everything, self._cover(np.minimum(depth, thick - depth) - np.float32(3.5)), -930.0)

    def _trunk(self) -> None:
        """Paint skin, fat and muscle, and inside them the cavities with lungs and bowel."""
        tissues = self.body.tissues
        a, b = self._along(OUTLINE)
        outline = Section(0.0, 0.0, a, b, 0.0, "skin")
        box = self._box(outline)
        depth = self._depth(outline, box, square=0.35)
        fat = self.body.fat * (0.35 if self.z > 520.0 else 1.0)
        for tissue, below in (("skin", 0.0), ("fat", 2.5), ("muscle", fat)):
            self._lay(box, self._cover(depth - np.float32(below)), tissues[tissue])
        sheets = np.clip(1.6 - np.abs(self._loops[box] - 0.4) * 11.0, 0.0, 0.8)
        self._lay(box, self._cover(depth - np.float32(fat)) * sheets, tissues["fat"])
        if self.z < CHEST[-1, 0]:
            self._cavity()
        if self.z < 240.0:
            self._bowel()
        if CHEST[0, 0] < self.z < CHEST[-1, 0]:
            self._lungs()

    def _cavity(self) -> None:
        """Paint the inside of the trunk with fat, and around it the ribs that cross this height."""
        a, b, y = self._along(INSIDE)
        section = Section(0.0, y, a, b, 0.0, "fat")
        box = self._box(section, wider=9.0)
        depth = self._depth(section, box, square=0.2)
        if self.z > 110.0:
            forward = (y - self.y[box]) / b  # -1 at the back, 1 at the front, where ribs end in cartilage
            turns = (self.z + 55.0 * forward) / _RIB + self.body.ribs  # ribs fall from the back to the front
            rib = np.clip(np.cos(np.float32(2 * np.pi) * turns) * 2.5 - 0.4, 0.0, 1.0)
            rib *= np.clip(3.4 - 4.0 * forward, 0.0, 1.0)
            self._lay(box, self._cover(depth + np.float32(8.5)) * rib, self.body.tissues["bone"])
        self._lay(box, self._cover(depth), self.body.tissues["fat"])

    def _bowel(self) -> None:
        """Paint loops into the front of the abdomen, with gas in a few."""
        section = Section(6.0, -26.0, 116.0, 54.0, 0.0, "stomach")
        box = self._box(section)
        cover = self._cover(self._depth(section, box, square=0.3)) * np.clip((self._loops[box] + 0.1) * 4.0, 0.0, 1.0)
        gas = np.clip((self._loops[box] - 1.25) * 5.0, 0.0, 1.0)
        content = self.body.tissues["stomach"] + 20.0
        self._lay(box, cover, content + gas * (self.body.tissues["gas"] - content))

    def _lungs(self) -> None:
        """Paint both lungs, denser towards the back, and their vessels, wider towards the hilum."""
        a, b, centre = self._along(CHEST)
        section = Section(0.0, centre, a, b, 0.0, "lung")
        box = self._box(section)
        x, y = np.abs(self.x[box]), self.y[box]
        back = y * np.float32(1.0 / b)
        (half,) = self._along(MEDIASTINUM)
        lung = self._cover(np.minimum(
            self._depth(section, box, square=0.2), x - half * (1.0 + 0.35 * back) - 5.0 * self._loops[box],
        ))  # fmt: skip
        hu = self.body.tissues["lung"] + 35.0 * back + 14.0 * self._grain[box]
        hilum = (x - 40.0) ** 2 + (y - 5.0) ** 2 + (self.z - 360.0) ** 2  # mm^2
        width = 0.10 + 0.34 / (1.0 + hilum * np.float32(1 / 1300.0))
        one, two = (self.scan.field(name, self.z)[box] for name in ("threads", "other threads"))
        hu += np.clip(1.6 - (one**2 + two**2) / width**2, 0.0, 1.0) * (self.body.tissues["muscle"] - hu)
        self._lay(box, lung, hu)
        self.lung[box] = lung

    def _organs(self) -> None:
        for part, low, high in (("abdomen", 0.0, 300.0), ("chest", 200.0, LENGTH), ("all", 0.0, LENGTH)):
            for solid in self.body.organs[part] if low <= self.z <= high else ():
                section = solid.section(self.z)
                if section is not None:
                    self._fill(section, self.body.tissues[section.tissue])

    def _bones(self) -> None:
        """Paint the spine, whose vertebrae alternate with discs, then sternum, shoulder blades and collar bones."""
        bone, disc = self.body.tissues["bone"], self.body.tissues["disc"]
        y = 54.0 + 8.0 * np.sin(min(self.z, 480.0) / 95.0) - 0.16 * max(self.z - 480.0, 0.0)
        k = 1.0 - min(max(self.z - 380.0, 0.0) / 300.0, 0.45)
        vertebra = min(1.0, 1.5 + 1.5 * np.cos(2 * np.pi * self.z / _VERTEBRA))  # 0 in a disc
        for below, a, b, hu in (
            (27, 38, 6, 120 + 250 * vertebra), (44, 4.5, 15, 330), (25, 19, 15, 380),  # processes and arch
            (0, 21, 16, disc + vertebra * (bone - disc)), (0, 18, 13.5, disc + 110 * vertebra), (23, 11, 9, 28),
        ):  # fmt: skip
            self._fill(Section(0.0, y + k * below, k * a, k * b, 0.0, "bone"), hu)
        for solid in self.body.organs["bones"]:
            section = solid.section(self.z)
            if section is not None:
                self._fill(section, bone)

    def _lesion(self, lesion: Lesion) -> None:
        """Paint what of a lesion lies in its organ, and mark it."""
        section = lesion.solid.section(self.z)
        if section is None or min(section.a, section.b) < 1.0:
            return
        box = self._box(section)
        cover = self._cover(self._depth(section, box) + lesion.ragged * self._grain[box])
        cover *= self.lung[box] if lesion.organ == "lung" else self.liver(box)
        self._lay(box, cover, self.body.tissues[lesion.organ] + lesion.hu + lesion.mottle * self._grain[box])
        self.mask[box] |= cover > 0.5

    def liver(self, box: Box) -> NDArray[np.bool_]:
        """Return where the liver is and nothing has been painted over it."""
        sections = [solid.section(self.z) for solid in self.body.organs["abdomen"]]
        depths = [self._depth(part, box) for part in sections if part is not None and part.tissue == "liver"]
        inside = np.any([depth > 0.0 for depth in depths], axis=0) if depths else np.zeros((1, 1), np.bool_)
        return np.asarray(inside & (np.abs(self.image[box] - self.body.tissues["liver"]) < 4.0))


def _between(line: Image, centre: float, reach: float) -> slice:
    """Return the part of an evenly spaced ``line`` that lies within ``reach`` of ``centre``."""
    first, step = float(line[0]), float(line[1] - line[0])
    low, high = ((centre + side * reach - first) / step for side in (-1.0, 1.0))
    return slice(max(int(low), 0), max(int(high) + 2, 0))
