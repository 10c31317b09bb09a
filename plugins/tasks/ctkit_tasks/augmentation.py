"""Random changes of training images by MONAI, for fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor


def augmentation(size: int) -> Callable[[Tensor, int], Tensor]:
    """Return a function of an image (channels, size, size) on the scale 0..255 and a seed, which may run in threads.

    It turns by up to 10 degrees, moves by up to 5 % of the side and scales by up to 10 %; pixels of the border are
    repeated. Half of the images get noise, of a standard deviation of up to 5 % of the scale, and half become brighter
    or darker by up to 10 %. Values may leave the scale.
    """
    from monai.transforms import Compose, RandAffine, RandGaussianNoise, RandScaleIntensity

    def augmented(image: Tensor, seed: int) -> Tensor:
        change = Compose(  # made for each image, as threads cannot share what draws
            [
                RandAffine(1, math.pi / 18, None, (size / 20, size / 20), (0.1, 0.1), padding_mode="border"),
                RandGaussianNoise(0.5, std=255 / 20),
                RandScaleIntensity(0.1, prob=0.5),
            ]
        )
        found: Any = change.set_random_state(seed)(image.float())
        plain: Tensor = found.as_tensor()
        return plain

    return augmented
