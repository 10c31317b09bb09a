"""Reads which slices of a scan of LIDC-IDRI show a nodule from DICOM segmentations, as Imaging Data Commons has them.

Each holds one reader's outline of one nodule (Fedorov et al. 2018, doi:10.7937/TCIA.2018.h7umfurq) and lies in a series
of its own beside the scan: ``PATIENT/STUDY/SERIES/*.dcm``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom

from ctkit.contracts import Volume
from ctkit_datasets.dicom_header import INSTANCE, SERIES, texts

_log = logging.getLogger(__name__)
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_CLASS = 0x00080016  # SOP Class UID
_NODULES = ("M-03010", "27925004")  # in SNOMED RT and SNOMED CT
_LARGEST = 256 << 20  # bytes


def segmented_nodules(root: Path, volume: Volume) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the slices with a nodule, under "nodule"; {} where no segmentation of the scan is there."""
    first = root / volume.source(0)
    series = texts(first, frozenset({SERIES})).get(SERIES, "")
    found = [marked for path in _segmentations(first.parent) if (marked := _marked(path, series)) is not None]
    if not found:
        return {}
    uids = set().union(*found)
    wanted = frozenset({INSTANCE})
    instances = (texts(root / volume.source(number), wanted).get(INSTANCE) for number in range(len(volume)))
    return {"nodule": tuple(number for number, uid in enumerate(instances) if uid in uids)}


def _segmentations(scan: Path) -> Iterator[Path]:
    """Segmentations in the series beside that of a scan."""
    for folder in sorted(path for path in scan.parent.iterdir() if path.is_dir() and path != scan):
        for path in sorted(folder.glob("*.dcm")):
            try:
                is_one = texts(path, frozenset({_CLASS})).get(_CLASS) == _SEGMENTATION
                if is_one and path.stat().st_size <= _LARGEST:
                    yield path
            except OSError:
                continue
            if not is_one:
                break  # files of one series are of one class


def _marked(path: Path, series: str) -> set[str] | None:
    """SOPInstanceUIDs of the images on which a nodule was outlined; None where the file says nothing of the series."""
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
        _log.debug("%s has no readable segmentation: %s", path, error)
        return None
