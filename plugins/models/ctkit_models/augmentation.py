"""The views that the shared parameters of contrastive methods describe."""

from __future__ import annotations

from ctkit_models.parameters import ContrastiveParams
from ctkit_models.views import (
    Normalise,
    RandomBlur,
    RandomFlip,
    RandomJitter,
    RandomNoise,
    RandomResizedCrop,
    RandomRotation,
    View,
)


def augmented_view(params: ContrastiveParams, normalise: Normalise, size: int, scale: tuple[float, float]) -> View:
    """A view of ``size`` pixels that shows a share ``scale`` of the slice, in the order of lightly's transforms."""
    return View(
        (
            RandomResizedCrop(size, scale),
            RandomFlip(-1, params.flip_horizontal),
            RandomFlip(-2, params.flip_vertical),
            RandomRotation(params.rotation, params.rotation_p),
            RandomJitter(params.brightness, params.contrast, params.jitter_p),
            RandomBlur(params.blur, params.blur_p),
            RandomNoise(params.noise, params.noise_p),
            normalise,
        )
    )
