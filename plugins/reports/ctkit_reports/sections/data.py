"""The data: what was read, what is odd about it, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ctkit.console import quantities, redaction
from ctkit.contracts import Floats
from ctkit_reports import figures, wording
from ctkit_reports.elements import Plot, Table, number, table, text
from ctkit_reports.figures import Look
from ctkit_reports.reading import Run, Scan

VOLUME_ROWS = 20  #: more volumes than that are shown as histograms
REASONS = 20  #: kinds of notes and of reasons that are listed


@dataclass(frozen=True)
class Data:
    """The sixth section."""

    facts: tuple[tuple[str, str], ...]
    volumes: Table | None
    plots: tuple[Plot, ...]
    notes: Table | None
    skipped: Table | None


def data(run: Run) -> Data | None:
    """What was read, what is odd about it, and what was left out and why."""
    scan = run.scan
    if scan is None:
        return None
    many = len(scan.digests) > VOLUME_ROWS
    notes = Counter(redaction.without_paths(note) for notes in scan.notes for note in notes)
    reasons: Counter[str] = Counter()
    for reason, files in scan.skipped.items():
        reasons[redaction.without_paths(reason)] += files
    return Data(
        facts=tuple(_data_facts(run, scan)),
        volumes=None if many else _volume_table(scan),
        plots=tuple(_volume_plots(scan)) if many else (),
        notes=_counted("Notes on volumes", ("Note", "Volumes"), notes),
        skipped=_counted("What was left out, and why", ("Reason", "Files"), reasons),
    )


def _data_facts(run: Run, scan: Scan) -> Iterable[tuple[str, str]]:
    yield "Data set", str(redaction.redacted(run.pipeline.get("dataset", {}).get("use", ""), "use"))
    lost = len(scan.digests) - len(scan.extents)
    unread = f"; {lost} of the volumes cannot be read" if lost else ""
    volumes, patients = quantities.count(len(scan.digests), "volume"), quantities.count(scan.patients, "patient")
    yield "Extent", f"{volumes} of {patients}{unread}"
    if len(scan.extents):
        yield "Slices", f"{quantities.count(scan.extents.sum())}; per volume {_range(scan.extents.astype(np.float64))}"
        sizes = Counter(f"{rows} × {columns}" for rows, columns in scan.pixels).most_common(3)
        yield "Pixels", ", ".join(f"{size} ({quantities.count(n, 'volume')})" for size, n in sizes)
        yield "Pixel spacing", f"{_range(scan.spacing[:, 0])} mm"
        yield "Slice spacing", f"{_range(scan.spacing[:, 2])} mm"
    yield "Left out", quantities.count(sum(scan.skipped.values()), "file")


def _range(values: Floats) -> str:
    """Median and extremes: "2.5 (1.25 to 3)"."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "unknown"
    low, middle, high = (wording.number(float(value)) for value in np.percentile(known, [0, 50, 100]))
    return middle if low == high else f"{middle} ({low} to {high})"


def _volume_table(scan: Scan) -> Table | None:
    rows = [
        [
            text(digest),
            number(int(slices)),
            text(f"{size[0]} × {size[1]}"),
            number(float(spacing[0])),
            number(float(spacing[2])),
            text(redaction.without_paths("; ".join(notes))),
        ]
        for digest, slices, size, spacing, notes in zip(
            scan.digests, scan.slices, scan.pixels, scan.spacing, scan.notes, strict=True
        )
    ]
    columns = ("Volume", "Slices", "Pixels", "Pixel spacing, mm", "Slice spacing, mm", "Notes")
    return table("Volumes, by digest", columns, rows)


def _volume_plots(scan: Scan) -> Iterable[Plot]:
    for title, unit, values in (
        ("Slices per volume", "slices", scan.slices.astype(np.float64)),
        ("Slice spacing", "mm", scan.spacing[:, 2]),
    ):
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
    return table(caption, columns, [[text(words), number(n)] for words, n in common])
