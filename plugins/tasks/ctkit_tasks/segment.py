"""Protocol ``segment``: how well does a segmentation network do that starts from the backbone?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ctkit.contracts import Evaluation, Params, Predictions
from ctkit_tasks.parts import measured, parts_of
from ctkit_tasks.segmentation import Segmentation


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


class Segment(Segmentation[SegmentParams]):
    """MONAI's U-shaped decoder on the backbone's feature maps, trained on slices with Dice loss and cross-entropy.

    The epoch with the best Dice coefficient on the validation slices is taken. Test volumes are segmented slice by
    slice, at the size of their masks, and measured whole, in mm (``ctkit_tasks.overlap`` states the rule for empty
    masks). Memory is that of one volume: training slices lie in a temporary file in the cache. The model is kept, and a
    killed training goes on from its last checkpoint.
    """

    def predict(self, job: Evaluation) -> Predictions:
        """Train, segment the test volumes with the best epoch's weights, and measure them."""
        from ctkit_tasks.segmenting import segment  # brings torch

        parts = parts_of(job)
        found, best = segment(job, parts, self.params, self.version)
        note = (
            f"epoch {best.number} of {self.params.epochs} was best on {len(parts.val.numbers)} validation images "
            f"(Dice coefficient {best.accuracy:.3f})"
        )
        return measured(job, found, [*parts.notes, note])
