"""Where the slices of a DICOM volume lie in the patient, from the headers of their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Skipped, Volume
from ctkit_datasets.dicom_geometry import Turn
from ctkit_datasets.dicom_header import inspect_file

_TO_RIGHT_AND_FRONT = np.array([[-1.0], [-1.0], [1.0]])  # DICOM counts to the left and to the back


def slice_places(root: Path, volume: Volume, index: Ints) -> NDArray[np.float64] | None:
    """Return where slices lie, as ``Dataset.places`` says, None where a header does not tell."""
    turn = Turn(**volume.details["turn"])
    found: dict[int, list[Mapping[str, Any]]] = {}
    places = np.empty((len(index), 3, 3))
    for place, number in zip(places, index.tolist(), strict=True):
        file, frame = volume.slices[number]
        if file not in found:
            facts = inspect_file(root, volume.files[file])
            found[file] = [] if isinstance(facts, Skipped) else facts["slices"]
        header = found[file][frame] if frame < len(found[file]) else {}
        if not (header.get("position") and header.get("orientation") and header.get("spacing")):
            return None
        place[:] = _upright(header, turn, volume.rows, volume.columns)
    return places


def _upright(header: Mapping[str, Any], turn: Turn, rows: int, columns: int) -> NDArray[np.float64]:
    """Return steps and first pixel of a slice that was put upright, (3, 3), by PS3.3 section C.7.6.2.1.1."""
    cosines = np.reshape(header["orientation"], (2, 3))
    down, across = cosines[1] * header["spacing"][0], cosines[0] * header["spacing"][1]
    if turn.transpose:
        down, across = across, down
    first = np.array(header["position"], np.float64)
    if turn.flip_rows:
        first, down = first + down * (rows - 1), -down
    if turn.flip_columns:
        first, across = first + across * (columns - 1), -across
    return np.asarray(np.stack([across, down, first], axis=1) * _TO_RIGHT_AND_FRONT)
