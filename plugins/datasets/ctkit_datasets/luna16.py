"""LUNA16 (https://luna16.grand-challenge.org): 888 scans of LIDC-IDRI as MetaImage, with the nodules of its readers.

``subset0`` to ``subset9`` hold ``SERIESUID.mhd`` and ``.raw``; ``annotations.csv`` lists nodules that three of four
readers marked, ``candidates_V2.csv`` or ``candidates.csv`` places that look like one.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ctkit.contracts import Skipped, SourceFile, Volume, VolumeFacts
from ctkit.errors import DataError
from ctkit_datasets.metaimage import MetaImage
from ctkit_datasets.nifti_files import slice_places
from ctkit_datasets.nifti_layouts import stem
from ctkit_formats.tables import rows_of

_log = logging.getLogger(__name__)
_UID = re.compile(r"\d+(\.\d+)+")
_TABLES = {"annotations.csv": "nodule", "candidates_V2.csv": "candidate", "candidates.csv": "candidate"}
Marks = Mapping[str, list[tuple[str, float, float, float, float]]]  # by series: kind; x, y, z (LPS) and diameter in mm


class Luna16(MetaImage):
    """The scans of LUNA16: each series is a volume and, as nothing says whose it is, a patient."""

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read one header; masks of lungs are none."""
        if any(part.lower().startswith("seg-lungs") for part in file.path.split("/")[:-1]):
            return Skipped(file.path, "a segmentation of lungs")
        return super().inspect(file)

    def volumes(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per file that is named by a series, and the others with the reason."""
        found = list(super().volumes(headers))
        series = Counter(stem(one.files[0].path) for one in found if isinstance(one, Volume))
        for one in found:
            if isinstance(one, Skipped):
                yield one
                continue
            uid = stem(one.files[0].path)
            if _UID.fullmatch(uid):
                yield replace(one, key=uid if series[uid] == 1 else one.key, patient=uid)
            else:
                yield from (Skipped(file.path, "not named by a SeriesInstanceUID") for file in one.files)

    def facts(self, volume: Volume) -> VolumeFacts:
        """On which slices nodules and candidates are, by the tables below the root."""
        found: dict[str, set[int]] = {}
        places = slice_places(volume.details, np.arange(len(volume)))
        middles = places @ [volume.columns / 2, volume.rows / 2, 1]
        normal = np.cross(places[0, :, 0], places[0, :, 1])
        normal /= np.linalg.norm(normal)
        heights = middles @ normal
        apart = float(np.abs(np.diff(heights)).mean()) if len(heights) > 1 else math.inf
        for name, kind in _TABLES.items():
            for path in (self.params.root / name, *sorted(self.params.root.glob(f"*/{name}"))):
                marks = _marks(path, kind, path.stat().st_mtime_ns) if path.is_file() else None
                if marks is None:
                    continue
                for title in _KINDS[kind]:
                    found.setdefault(title, set())
                for title, x, y, z, diameter in marks.get(volume.patient, ()):
                    height = np.array([-x, -y, z]) @ normal
                    shown = np.abs(heights - height) <= max(diameter, apart) / 2
                    found[title] |= set(np.flatnonzero(shown).tolist())
                break
        return VolumeFacts(findings={kind: tuple(sorted(numbers)) for kind, numbers in sorted(found.items())})


_KINDS = {"nodule": ("nodule",), "candidate": ("candidate that is a nodule", "candidate that is not a nodule")}


@lru_cache(maxsize=4)
def _marks(path: Path, kind: str, _: int) -> Marks | None:
    """Read a table of marks, once in each process; None where it is another one. ``_`` tells its versions apart.

    A line without a place is left out with a warning.
    """
    marks: dict[str, list[tuple[str, float, float, float, float]]] = defaultdict(list)
    damaged = 0
    try:
        for _, row in rows_of(path):
            title = "nodule" if kind == "nodule" else _KINDS[kind][row["class"].strip() != "1"]
            texts = (row["coordX"], row["coordY"], row["coordZ"], row.get("diameter_mm") or "0")
            try:
                x, y, z, diameter = map(float, texts)
            except ValueError:
                damaged += 1
                continue
            marks[row["seriesuid"].strip()].append((title, x, y, z, diameter))
    except (DataError, KeyError) as error:
        _log.warning("%s is not a table of LUNA16, and is not used (%s)", path.name, type(error).__name__)
        return None
    if damaged:
        _log.warning("%s: %d lines without a place are left out", path.name, damaged)
    return marks
