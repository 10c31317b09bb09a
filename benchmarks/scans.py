"""Where the real scan lies that benchmarks read. Needs the standard library alone."""

from __future__ import annotations

import os
from pathlib import Path


def lidc_scan() -> Path | None:
    """The folder of patient LIDC-IDRI-0306 in $CTKIT_REAL_DATA (see CONTRIBUTING.md), if it is there."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CTKIT_REAL_DATA", default)) / "lidc-idri" / "LIDC-IDRI" / "LIDC-IDRI-0306"
    return folder if folder.is_dir() else None
