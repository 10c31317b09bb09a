"""The parameters of protocol ``segment``. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ctkit.contracts import Params


class SegmentParams(Params):
    """How the network is trained."""

    trunk: Literal["tuned", "frozen"] = Field("tuned", description="whether the backbone is trained with the decoder")
    size: int = Field(224, ge=32, le=1024, multiple_of=32, description="side that images are resized to, in pixels")
    epochs: int = Field(30, ge=1, description="passes over the training images")
    batch: int = Field(16, ge=2, description="images in a training step")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, for the decoder; a tuned backbone has a tenth of it")
    weight_decay: float = Field(1e-5, ge=0, description="of Adam")
    augment: bool = Field(
        True,
        description="whether training images are moved, turned, scaled, made noisy and brighter or darker, and masks"
        " with them",
    )
