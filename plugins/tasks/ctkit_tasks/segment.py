"""Protocol ``segment``: how well does a segmentation network do that starts from the backbone?"""

from __future__ import annotations

from ctkit.contracts import Evaluation, Predictions
from ctkit_tasks.parts import measured, parts_of
from ctkit_tasks.segment_params import SegmentParams
from ctkit_tasks.segmentation import Segmentation


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

        parts = parts_of(job, masks=True)
        found, absent, best = segment(job, parts, self.params, self.version)
        note = best.note(self.params.epochs, len(parts.val.numbers), "Dice coefficient")
        scored = "its scores only tell whether it was found where it is not"
        warnings = [f"test has no volume that shows {name}; {scored}" for name in absent]
        return measured(job, found, [*parts.notes, note], warnings)
