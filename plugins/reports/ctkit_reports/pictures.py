"""Slices as small JPEG pictures inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

SIDE = 144  #: pixels at most
_BUDGET = 720  #: pictures on the whole page; of about 5 kB each


def spread(n: int, most: int) -> list[int]:
    """``most`` of ``n`` numbers, evenly spread, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most))}) if n else []


def per_arm(arms: int) -> int:
    """How many pictures one arm may show, so that the page stays small whatever the number of arms."""
    return min(96, _BUDGET // max(arms, 1))


def as_png(slice_: NDArray[np.uint8], side: int) -> str:
    """A square slice (n, n), at ``side`` pixels, as a ``data:`` address that changes no value."""
    from PIL import Image

    image = Image.fromarray(slice_)
    buffer = io.BytesIO()
    (image if side == len(slice_) else image.resize((side, side), Image.Resampling.BOX)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_uri(slice_: NDArray[np.uint8]) -> str:
    """A slice (rows, columns) as a ``data:`` address."""
    from PIL import Image

    image = Image.fromarray(slice_)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
