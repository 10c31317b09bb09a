"""Slices that the reducer tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def drifting() -> NDArray[np.uint8]:
    """(24, 40, 47) of smooth noise that drifts from slice to slice, each slice from 0 to 255."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(0).normal(size=(24, 40, 47)), (1.5, 3, 3))
    low, high = field.min((1, 2), keepdims=True), field.max((1, 2), keepdims=True)
    return np.rint((field - low) / (high - low) * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def published_slices(real_data: Path) -> dict[str, NDArray[np.uint8]]:
    """The 246 readable slices of four LIDC patients by the published recipe: ``PATIENT_{counter}`` to 8-bit slice.

    Written from the recipe's description with pydicom and numpy alone.
    """
    import pydicom

    found: dict[str, NDArray[np.uint8]] = {}
    for series in sorted(path for path in (real_data / "lidc-idri" / "LIDC-IDRI").glob("*/*/*") if path.is_dir()):
        if len(list(series.iterdir())) <= 10:
            continue
        for path in sorted(series.glob("*.dcm")):
            scan = pydicom.dcmread(path)
            if len(scan.PixelData) < scan.Rows * scan.Columns * scan.BitsAllocated // 8:
                continue  # the truncated file
            pixels = scan.pixel_array.astype(np.int16)
            pixels[pixels == -2000] = 0
            hu = pixels * float(scan.get("RescaleSlope", 1)) + float(scan.get("RescaleIntercept", -1024))
            scaled = np.rint((hu - hu.min()) / (hu.max() - hu.min()) * 255).astype(np.uint8)
            found[f"{series.parts[-3]}_{len(found)}"] = scaled
    return found


@pytest.fixture(scope="session")
def cuda() -> str:
    """Name of a CUDA device; the test is skipped where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda"
