"""Readings: which slices of a volume can be read, why the others cannot, and how wide their values range."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from ctkit.contracts import Ints, Pixels
from ctkit.slices import Catalogue, packed
from ctkit.slices.rendering import ends_of
from ctkit.storage import Cache, address

Skips = tuple[tuple[int, str], ...]  #: numbers and reasons of slices that are left out


@dataclass(frozen=True)
class Known:
    """Slices that are known to be unreadable before a volume is read."""

    skipped: Skips = ()
    retry: bool = False  #: one of them for what may pass
    limit: float = 0.0  #: seconds after which one was given up; 0 for none


NOTHING_KNOWN = Known()


@dataclass(frozen=True)
class Reading:
    """What reading a volume has found."""

    slices: int  #: of the volume
    skipped: Skips  #: ascending
    unit: str = "HU"  #: of the values, or "arbitrary"
    span: tuple[float, float] = (0.0, 0.0)  #: lowest and highest value of all readable slices
    retry: bool = False  #: some are skipped for what may pass, so that the next run tries again
    limit: float = 0.0  #: seconds after which some were given up, so that a run with more time tries again; 0 for none
    notes: tuple[str, ...] = ()  #: what a reader of the volume should know

    @classmethod
    def of(cls, slices: int, pixels: Pixels, known: Known) -> Reading:
        """Return the reading of a volume of ``slices`` of which all were read but those ``known`` to be unreadable."""
        skipped = tuple(sorted({**dict(known.skipped), **dict(pixels.skipped)}.items()))
        ends = ends_of(pixels.values) if pixels.ends is None else pixels.ends
        span = (float(ends.min()), float(ends.max())) if ends.size else (0.0, 0.0)
        return cls(slices, skipped, pixels.unit, span, pixels.retry or known.retry, known.limit, pixels.notes)

    @classmethod
    def of_nothing(cls, slices: int, reason: str) -> Reading:
        """Return the reading of a volume that cannot be read in this run."""
        return cls(slices, tuple((number, reason) for number in range(slices)), retry=True)

    @cached_property
    def index(self) -> Ints:
        """Numbers of the readable slices, ascending."""
        every = np.arange(self.slices)
        return np.setdiff1d(every, [number for number, _ in self.skipped]) if self.skipped else every

    def shown(self, volume: str, levels: str | tuple[float, float]) -> str:
        """Address of the volume with address ``volume`` as training sees it, where that depends on the span of values.

        ``levels`` is a rendering as ``ctkit.rendering.training`` takes it.
        """
        windowed = self.unit == "HU" and levels != "volume-min-max"
        return volume if windowed or levels == "slice-min-max" else address("shown", volume=volume, span=self.span)

    @property
    def mark(self) -> str:
        """What tells apart the results of readings of one volume that differ in their slices; "" where all are read."""
        return hashlib.sha256(str(self.index.tolist()).encode()).hexdigest() if self.skipped else ""


def read_reading(cache: Cache, volume: str) -> Reading | None:
    """Return the reading of the volume with address ``volume``, None where it was never read."""
    return packed(cache, "reading").value(volume, Reading)


def read_readings(cache: Cache, catalogue: Catalogue) -> list[Reading]:
    """Return every volume's reading, in the catalogue's order; one that was never read has nothing readable."""
    return [
        read_reading(cache, catalogue.address(number)) or Reading.of_nothing(int(count), "not read")
        for number, count in enumerate(catalogue.counts)
    ]


def write_reading(cache: Cache, volume: str, reading: Reading) -> None:
    """Add a volume's reading to what is to be written, unless it is there."""
    if read_reading(cache, volume) != reading:
        packed(cache, "reading").add(volume, json.dumps(asdict(reading)).encode(), reading)
