"""Reads from DICOM headers what explains a selection and is not needed to make one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ctkit.contracts import Volume
from ctkit_datasets.dicom_elements import HeaderError, read_header

SERIES, INSTANCE = 0x0020000E, 0x00080018  #: SeriesInstanceUID, SOPInstanceUID
_TRAITS = {0x00080070: "manufacturer", 0x00181210: "kernel"}
_LONGEST = 64  # characters of a long string (PS3.5 section 6.2)


def traits(root: Path, volume: Volume) -> dict[str, str]:
    """Return manufacturer and convolution kernel of a volume, as far as its first file's header gives them."""
    found = texts(root / volume.source(0), frozenset(_TRAITS))
    return {name: found[tag][:_LONGEST] for tag, name in _TRAITS.items() if found.get(tag)}


def texts(path: Path, tags: frozenset[int]) -> Mapping[int, str]:
    """Return the values of top-level text elements of a file, {} where it is no DICOM file or cannot be read."""
    try:
        with path.open("rb", buffering=0) as stream:
            header = read_header(stream, os.fstat(stream.fileno()).st_size, tags)
    except (HeaderError, OSError):
        return {}
    return {tag: value.decode("latin-1").strip(" \0\r\n\t") for tag, value in header.values.items()}
