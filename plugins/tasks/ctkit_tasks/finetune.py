"""Protocol ``finetune``, the paper's: how well does a classifier do that starts from the backbone and trains whole?"""

from __future__ import annotations

from ctkit.contracts import Evaluation, Predictions
from ctkit_tasks.classification import Classification
from ctkit_tasks.finetune_params import FinetuneParams
from ctkit_tasks.parts import parts_of, predictions_of


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
        probabilities, best = tune(job, parts, self.params, self.version)
        note = best.note(self.params.epochs, len(parts.val.numbers))
        return predictions_of(job, probabilities, [*parts.notes, note])
