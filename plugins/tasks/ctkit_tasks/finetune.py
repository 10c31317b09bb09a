"""Protocol ``finetune``, the paper's: how well does a classifier do that starts from the backbone and trains whole?"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ctkit.contracts import Evaluation, Params, Predictions
from ctkit_tasks.classification import Classification
from ctkit_tasks.parts import parts_of, predictions_of


class FinetuneParams(Params):
    """The paper's numbers are the defaults."""

    size: int = Field(224, ge=16, le=1024, description="side that images are resized to, in pixels")
    epochs: int = Field(70, ge=1, description="passes over the training images")
    frozen_epochs: int = Field(10, ge=0, description="first epochs, in which the trunk stays as it is")
    batch: int = Field(64, ge=2, description="images in a training step")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam, for the trunk and the linear layer")
    weight_decay: float = Field(5e-4, ge=0, description="of Adam, for the trunk and the linear layer")
    flip: float = Field(0.5, ge=0, le=1, description="probability that a training image is mirrored left to right")

    @model_validator(mode="after")
    def _some_epoch_trains_the_trunk(self) -> Self:
        if self.frozen_epochs >= self.epochs:
            raise ValueError(
                f"frozen_epochs must be less than epochs, but {self.frozen_epochs} of {self.epochs} epochs keep the "
                "trunk as it is; for a frozen trunk use protocol linear"
            )
        return self


class Finetune(Classification[FinetuneParams]):
    """The trunk and a linear layer, trained with Adam on cross-entropy; the best epoch by validation accuracy is taken.

    Other than in the published scripts, the layer's learning rate stays when the trunk thaws, and a frozen trunk's
    batch normalisation is frozen too. Of epochs with equal accuracy the one with the lowest validation loss is taken.
    Training images are held in memory, 8 bits a pixel. On a GPU that has bfloat16, training runs in mixed precision;
    predictions are always made in float32. A killed training goes on from its last checkpoint, and the model is kept.
    """

    def predict(self, job: Evaluation) -> Predictions:
        """Train, and predict the test images with the best epoch's weights."""
        from ctkit_tasks.tuning import tune  # brings torch

        parts = parts_of(job)
        tuned = tune(job, parts, self.params, self.version)
        note = (
            f"epoch {tuned.epoch} of {self.params.epochs} was best on {len(parts.val.numbers)} validation images "
            f"(accuracy {tuned.accuracy:.3f})"
        )
        return predictions_of(job, tuned.probabilities, [*parts.notes, note])
