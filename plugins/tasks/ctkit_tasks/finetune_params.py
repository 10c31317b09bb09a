"""The parameters of protocol ``finetune``. Imports no torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ctkit.contracts import Params


class FinetuneParams(Params):
    """The paper's numbers are the defaults."""

    size: int = Field(224, ge=16, le=1024, description="side that images are resized to, in pixels")
    epochs: int = Field(70, ge=1, description="passes over the training images")
    frozen_epochs: int = Field(10, ge=0, description="first epochs, in which the backbone is frozen")
    batch: int = Field(64, ge=2, description="images in a training step")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam, for the backbone and the linear layer")
    weight_decay: float = Field(5e-4, ge=0, description="of Adam, for the backbone and the linear layer")
    flip: float = Field(0.5, ge=0, le=1, description="probability that a training image is mirrored left to right")
    augment: bool = Field(
        False, description="whether training images are also moved, turned, scaled, made noisy and brighter or darker"
    )

    @model_validator(mode="after")
    def _some_epoch_trains_the_trunk(self) -> Self:
        if self.frozen_epochs >= self.epochs:
            raise ValueError(
                f"frozen_epochs must be less than epochs, but {self.frozen_epochs} of {self.epochs} epochs freeze the"
                " backbone; for a frozen backbone use protocol linear"
            )
        return self
