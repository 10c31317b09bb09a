"""From a task's images to what a trunk sees: resized to a square, repeated to three channels, normalised.

Pillow resizes as it does for the usual transforms on images: bilinear, with the filter widened when it shrinks, rounded
to 8 bits. Only elementwise arithmetic is left for the device, so batches of any size give the same numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ctkit.contracts import Ints

Item = TypeVar("Item")
Made = TypeVar("Made")

_AHEAD = 2  # batches that are prepared while the device works on one


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a grey (height, width) or colour (height, width, 3) image to (1 or 3, size, size)."""
    square = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    return square[None] if square.ndim == 2 else square.transpose(2, 0, 1)


def batches(
    image: Callable[[int], NDArray[np.uint8]], numbers: Ints, *, size: int, batch: int, workers: int
) -> Iterator[Tensor]:
    """Read and resize images in threads: (b, 1 or 3, size, size) uint8, three channels where one of them has colour."""

    def prepare(number: int) -> NDArray[np.uint8]:
        return resized(image(number), size)

    parts = (numbers[start : start + batch].tolist() for start in range(0, len(numbers), batch))
    return map(_stacked, in_threads(prepare, parts, workers))


def in_threads(make: Callable[[Item], Made], parts: Iterable[Sequence[Item]], workers: int) -> Iterator[list[Made]]:
    """Yield for each part what is made of its items; threads work on the next parts meanwhile."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead: deque[Iterator[Made]] = deque()
        for part in parts:
            ahead.append(pool.map(make, part))
            if len(ahead) > _AHEAD:
                yield list(ahead.popleft())
        while ahead:
            yield list(ahead.popleft())


def together(parts: Iterable[Tensor]) -> Tensor:
    """Join batches; grey ones are repeated to three channels where another has colour."""
    found = list(parts)
    channels = max(part.shape[1] for part in found)
    return torch.cat([part.expand(-1, channels, -1, -1) for part in found])


def normalised(images: Tensor, mean: float, std: float) -> Tensor:
    """Turn uint8 (b, 1 or 3, size, size) into float32 (b, 3, size, size), with mean and deviation on the scale 0..1."""
    return images.float().div(255).sub(mean).div(std).expand(-1, 3, -1, -1)


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    channels = max(len(image) for image in images)
    return torch.from_numpy(np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images]))
