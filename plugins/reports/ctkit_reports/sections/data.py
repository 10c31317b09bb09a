"""The data: what was read, what is odd about it, and what was left out and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ctkit import Run, VolumeRow, quantities, redaction
from ctkit.contracts import Floats, Ints
from ctkit_reports import figures, wording
from ctkit_reports.elements import Plot, Table, number, table, text
from ctkit_reports.figures import Look

VOLUME_ROWS = 20  #: more volumes than that are shown as histograms
_NAME = re.compile(r"\b[0-9a-f]{16}\b")  # the digest of another volume
REASONS = 20  #: kinds of notes and of reasons that are listed


def data(run: Run) -> dict[str, Any]:
    """What was read, what is odd about it, and what was left out and why."""
    if not run.volumes and not run.skipped:
        return {}
    many = len(run.volumes) > VOLUME_ROWS
    notes = Counter(redaction.without_paths(_NAME.sub("…", note)) for one in run.volumes for note in one.notes)
    reasons: Counter[str] = Counter()
    for reason, files in run.skipped.items():
        reasons[redaction.without_paths(reason)] += files
    return {
        "facts": list(_data_facts(run)),
        "volumes": None if many else _volume_table(run.volumes),
        "plots": list(_volume_plots(run.volumes)) if many else [],
        "notes": _counted("Notes on volumes", ("Note", "Volumes"), notes),
        "skipped": _counted("Skipped files and slices, and why", ("Reason", "Files"), reasons),
    }


def extents(run: Run) -> Ints:
    """Numbers of slices of the volumes of which any can be read."""
    return np.array([volume.slices for volume in run.volumes if volume.slices], np.int64)


def _data_facts(run: Run) -> Iterable[tuple[str, str]]:
    yield "Data set", str(redaction.redacted(run.pipeline.get("dataset", {}).get("use", ""), "use"))
    readable = extents(run)
    lost = len(run.volumes) - len(readable)
    unread = f"; {lost} of the volumes cannot be read" if lost else ""
    patients = quantities.count(len({volume.patient for volume in run.volumes}), "patient")
    yield "Extent", f"{quantities.count(len(run.volumes), 'volume')} of {patients}{unread}"
    if len(readable):
        yield "Slices", f"{quantities.count(readable.sum())}; per volume {_range(readable.astype(np.float64))}"
        sizes = Counter(f"{volume.rows} × {volume.columns}" for volume in run.volumes).most_common(3)
        yield "Pixels", ", ".join(f"{size} ({quantities.count(n, 'volume')})" for size, n in sizes)
        yield "Pixel spacing", f"{_range(np.array([volume.spacing_x for volume in run.volumes]))} mm"
        yield "Slice spacing", f"{_range(np.array([volume.spacing_z for volume in run.volumes]))} mm"
    yield "Left out", quantities.count(sum(run.skipped.values()), "file")


def _range(values: Floats) -> str:
    """Median and extremes: "2.5 (1.25 to 3)"."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "unknown"
    low, middle, high = (wording.number(float(value)) for value in np.percentile(known, [0, 50, 100]))
    return middle if low == high else f"{middle} ({low} to {high})"


def _volume_table(volumes: Sequence[VolumeRow]) -> Table | None:
    rows = [
        {
            "Volume": text(one.volume),
            "Slices": number(one.slices),
            "Pixels": text(f"{one.rows} × {one.columns}"),
            "Pixel spacing, mm": number(one.spacing_x),
            "Slice spacing, mm": number(one.spacing_z),
            "Thickness, mm": number(one.thickness),
            "Kernel": text(one.kernel),
            "Notes": text(redaction.without_paths("; ".join(one.notes))),
        }
        for one in volumes
    ]
    return table("Volumes, by digest", rows)


def _volume_plots(volumes: Sequence[VolumeRow]) -> Iterable[Plot]:
    for title, unit, measured in (
        ("Slices per volume", "slices", [one.slices for one in volumes]),
        ("Slice spacing", "mm", [one.spacing_z for one in volumes]),
    ):
        values = np.array(measured, np.float64)
        known = values[np.isfinite(values)]
        if len(known):
            svg = figures.histogram(title, unit, known, Look(0), y="volumes")
            yield Plot(svg, f"{title}: {_range(known)} {unit}.")


def _counted(caption: str, columns: tuple[str, str], counts: Counter[str]) -> Table | None:
    """A table of the most frequent texts; the rest in one row."""
    common = counts.most_common(REASONS)
    rest = sum(counts.values()) - sum(n for _, n in common)
    if rest:
        common.append((f"{quantities.count(len(counts) - REASONS)} other kinds", rest))
    return table(caption, [{columns[0]: text(words), columns[1]: number(n)} for words, n in common])
