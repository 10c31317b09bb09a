"""Reads what the readers of LIDC-IDRI marked: the XML of a series, beside its files or anywhere below the root.

Four radiologists read each scan (Armato et al. 2011, doi:10.1118/1.3528204): they outlined nodules, and marked lesions
of 3 mm and more that are none. Here a slice shows a finding where at least one of them says so.

Imaging Data Commons has DICOM segmentations instead: each holds one reader's outline of one nodule (Fedorov et al.
2018, doi:10.7937/TCIA.2018.h7umfurq) and lies in a series of its own beside the scan: ``PATIENT/STUDY/SERIES/*.dcm``.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ctkit.contracts import Volume
from ctkit_datasets.dicom_elements import DEFLATED
from ctkit_datasets.dicom_header import INSTANCE, SERIES, texts
from ctkit_datasets.source_files import walk

_log = logging.getLogger(__name__)
_ROOT = "LidcReadMessage"  # radiographs have an IdriReadMessage
_KINDS = {"nodule": ("unblindedReadNodule", "{*}roi"), "lesion that is not a nodule": ("nonNodule", ".")}
_SERIES = re.compile(rb"<(?:\w+:)?SeriesInstanceUid>\s*([0-9.]+)\s*<", re.IGNORECASE)
_LARGEST = 64 << 20  # bytes of an XML file; the largest of the archive has some hundred thousand
_LARGEST_SEGMENTATION = 256 << 20  # bytes
_CLASS, _SYNTAX = 0x00080016, 0x00020010  # SOP Class UID, Transfer Syntax UID
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_NODULES = ("M-03010", "27925004")  # in SNOMED RT and SNOMED CT


def findings(root: Path, volume: Volume) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the slices that show each kind of finding; {} where nobody's reading lies there.

    Without XML the segmentations tell, under "nodule".
    """
    first = root / volume.source(0)
    series = texts(first, frozenset({SERIES})).get(SERIES, "")
    marked = _in_xml(root, first.parent, series)
    if not marked:
        outlined = [uids for path in _segmentations(first.parent) if (uids := _outlined(path, series)) is not None]
        marked = {"nodule": set().union(*outlined)} if outlined else {}
    if not marked:
        return {}
    wanted = frozenset({INSTANCE})
    instances = [texts(root / volume.source(number), wanted).get(INSTANCE) for number in range(len(volume))]
    return {kind: tuple(n for n, uid in enumerate(instances) if uid in uids) for kind, uids in marked.items()}


# --- XML ----------------------------------------------------------------------------------------------------------


def _in_xml(root: Path, scan: Path, series: str) -> dict[str, set[str]]:
    """SOPInstanceUIDs of the images with each kind of finding, by the first file that is a reading of the series."""
    for path in _xml_files(root, scan, series):
        if (reading := _reading(path, series)) is not None:
            return {kind: _marked(reading, element, where) for kind, (element, where) in _KINDS.items()}
    return {}


def _xml_files(root: Path, scan: Path, series: str) -> Iterator[Path]:
    """Yield the XML files beside a scan, then those anywhere that name its series: the archive delivers either."""
    yield from sorted(scan.glob("*.xml"))
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
        for place in mark.iterfind(where)
        if (place.findtext("{*}inclusion") or "TRUE").strip().upper() != "FALSE"
    )
    return {(place.findtext("{*}imageSOP_UID") or "").strip() for place in places} - {""}


# --- segmentations ------------------------------------------------------------------------------------------------


def _segmentations(scan: Path) -> Iterator[Path]:
    """Segmentations in the series beside that of a scan."""
    for folder in sorted(path for path in scan.parent.iterdir() if path.is_dir() and path != scan):
        for path in sorted(folder.glob("*.dcm")):
            try:
                said = texts(path, frozenset({_CLASS, _SYNTAX}))
                is_one = said.get(_CLASS) == _SEGMENTATION
                if is_one and path.stat().st_size <= _LARGEST_SEGMENTATION and said.get(_SYNTAX) != DEFLATED:
                    yield path  # pydicom would inflate all of a deflated one
            except OSError:
                continue
            if not is_one:
                break  # files of one series are of one class


def _outlined(path: Path, series: str) -> set[str] | None:
    """SOPInstanceUIDs of the images on which a nodule was outlined; None where the file says nothing of the series."""
    import pydicom  # needs as long as all else that a worker imports

    try:
        found = pydicom.dcmread(path)
        if series not in {str(item.SeriesInstanceUID) for item in found.ReferencedSeriesSequence}:
            return None
        nodules = {
            int(segment.SegmentNumber)
            for segment in found.SegmentSequence
            if str(segment.SegmentedPropertyTypeCodeSequence[0].CodeValue) in _NODULES
        }
        frames = found.PerFrameFunctionalGroupsSequence
        size = int(found.Rows) * int(found.Columns)
        bits = np.unpackbits(np.frombuffer(found.PixelData, np.uint8), count=len(frames) * size, bitorder="little")
        marked = bits.reshape(len(frames), size).max(axis=1).tolist()
        return {
            str(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
            for frame, is_marked in zip(frames, marked, strict=True)
            if is_marked and int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber) in nodules
        }
    except Exception as error:  # a parser of others, on what may be damaged
        _log.debug("%s holds no segmentation that can be read: %s", path, error)
        return None
