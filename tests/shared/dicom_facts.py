"""Facts of DICOM slices as ``ctkit_datasets.dicom_header.inspect_file`` gives them, without files."""

from __future__ import annotations

from typing import Any

from ctkit.contracts import SourceFile


def header(path: str, z: float, **slice_facts: Any) -> tuple[SourceFile, dict[str, Any]]:
    """Facts as ``inspect_file`` gives them."""
    series = {
        "patient": "p", "study": "s", "frame_of_reference": "f", "series": "1.2", "label": "l", "event": "e",
        "modality": "CT", "sop_class": "", "image_type": ["ORIGINAL"], "body_part": "",
    }  # fmt: skip
    storage = {
        "syntax": "1.2.840.10008.1.2.1", "order": "<", "rows": 4, "columns": 4, "frames": 1, "samples": 1,
        "photometric": "MONOCHROME2", "bits": 16, "stored": 16, "high": 15, "signed": True,
    }  # fmt: skip
    plain = {
        "position": [0.0, 0.0, z], "orientation": [1.0, 0, 0, 0, 1.0, 0], "spacing": [1.0, 1.0], "thickness": 1.0,
        "marks": {}, "slope": 1.0, "intercept": 0.0, "rescale_type": "HU", "ends": None, "padding": None, "notes": [],
    }  # fmt: skip
    facts = {"series": series, "storage": storage, "offset": 0, "slices": [plain | slice_facts]}
    return SourceFile(path, 32, 0), facts
