"""Random changes of training images by MONAI, and of their masks with them, for what is trained on few images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Sample = Mapping[str, Tensor]  # "image" (channels, size, size) on the scale 0..255; its "mask" (1, size, size) or none


def augmentation(size: int) -> Callable[[Sample, int], Sample]:
    """Return a function of an image, with or without a mask, and a seed, which may run in threads.

    It turns by up to 10 degrees, moves by up to 5 % of the side and scales by up to 10 %; pixels of the border are
    repeated. Half of the images get noise, of a standard deviation of up to 5 % of the scale, and half become brighter
    or darker by up to 10 %. Values may leave the scale. A mask goes where its image goes, and keeps its values.
    """
    from monai.transforms import Compose, RandAffined, RandGaussianNoised, RandScaleIntensityd

    def augmented(sample: Sample, seed: int) -> Sample:
        change = Compose(  # made for each image, as threads cannot share what draws
            [
                RandAffined(
                    ("image", "mask"),
                    prob=1,
                    rotate_range=math.pi / 18,
                    translate_range=(size / 20, size / 20),
                    scale_range=(0.1, 0.1),
                    mode=("bilinear", "nearest"),
                    padding_mode="border",
                    allow_missing_keys=True,
                ),
                RandGaussianNoised("image", prob=0.5, std=255 / 20),
                RandScaleIntensityd("image", factors=0.1, prob=0.5),
            ]
        )
        found: Any = change.set_random_state(seed)({name: value.float() for name, value in sample.items()})
        return {name: value.as_tensor() for name, value in found.items()}

    return augmented
