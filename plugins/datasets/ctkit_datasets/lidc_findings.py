"""Reads what the readers of LIDC-IDRI marked: the XML of a series, beside its files or anywhere below the root.

Four radiologists read each scan (Armato et al. 2011, doi:10.1118/1.3528204): they outlined nodules, and marked lesions
of 3 mm and more that are none. Here a slice shows a finding where at least one of them says so.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

from ctkit.contracts import Volume
from ctkit_datasets.dicom_header import INSTANCE, SERIES, texts
from ctkit_datasets.source_files import walk

_ROOT = "LidcReadMessage"  # radiographs have an IdriReadMessage
_KINDS = {"nodule": ("unblindedReadNodule", "roi"), "lesion that is no nodule": ("nonNodule", ".")}
_SERIES = re.compile(rb"<(?:\w+:)?SeriesInstanceUid>\s*([0-9.]+)\s*<", re.IGNORECASE)
_LARGEST = 64 << 20  # bytes; the largest of the archive has some hundred thousand


def findings(root: Path, volume: Volume) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the slices that show each kind of finding; {} where nobody's reading lies there."""
    first = root / volume.source(0)
    series = texts(first, frozenset({SERIES})).get(SERIES, "")
    beside = sorted(first.parent.glob("*.xml"))
    readings = (_reading(path, series) for path in itertools.chain(beside, _elsewhere(root, series)))
    reading = next((found for found in readings if found is not None), None)
    if reading is None:
        return {}
    marked = {kind: _marked(reading, element, where) for kind, (element, where) in _KINDS.items()}
    wanted = frozenset({INSTANCE})
    instances = [texts(root / volume.source(number), wanted).get(INSTANCE) for number in range(len(volume))]
    return {kind: tuple(n for n, uid in enumerate(instances) if uid in uids) for kind, uids in marked.items()}


def _elsewhere(root: Path, series: str) -> Iterator[Path]:
    """Yield the XML files below the root that name a series, as the archive also delivers them apart from the scans."""
    yield from _by_series(root).get(series, ())


@lru_cache(maxsize=1)
def _by_series(root: Path) -> dict[str, list[Path]]:
    """Return the XML files below a folder by the series they name; looked for once in each process."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in walk(root):
        if file.path.lower().endswith(".xml") and file.size <= _LARGEST:
            with suppress(OSError):
                named = _SERIES.search((root / file.path).read_bytes())
                if named:
                    found[named[1].decode()].append(root / file.path)
    return found


def _reading(path: Path, series: str) -> ElementTree.Element | None:
    """The readings of a series, None where the file holds something else."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        data = path.read_bytes()
        if b"<!DOCTYPE" in data or b"\0" in data:  # of 16 bits, where no type would be found
            return None
        found = ElementTree.fromstring(data)  # noqa: S314  # no document type, so no entities that could grow
    except Exception:  # the parser raises LookupError and others on encodings that it does not know
        return None
    if not found.tag.endswith(_ROOT):
        return None
    return found if (found.findtext(".//{*}SeriesInstanceUid") or "").strip() == series else None


def _marked(reading: ElementTree.Element, element: str, where: str) -> set[str]:
    """SOPInstanceUIDs of the images that hold marks of one kind. An outline may exclude a hole: that is no mark."""
    places = (
        place
        for mark in reading.iterfind(f".//{{*}}{element}")
        for place in (mark.iterfind(f"{{*}}{where}") if where != "." else [mark])
        if (place.findtext("{*}inclusion") or "TRUE").strip().upper() != "FALSE"
    )
    return {(place.findtext("{*}imageSOP_UID") or "").strip() for place in places} - {""}
