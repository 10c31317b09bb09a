"""What predictions of one task say together: which images are put into a wrong class with most confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctkit.contracts.protocol import Predictions


@dataclass(frozen=True)
class Mistake:
    """A test image that is put into a wrong class with confidence."""

    row: int  #: of the prediction files, counted from 1
    true: str
    predicted: str
    probability: float  #: of the class predicted, mean over runs


def worst_mistakes(runs: Sequence[Predictions], most: int = 5) -> list[Mistake]:
    """Images whose mean prediction is wrong, the most confident ones first; runs must hold the same images."""
    first = runs[0]
    mean = np.mean([run.probabilities for run in runs], axis=0)
    predicted, confidence = mean.argmax(axis=1), mean.max(axis=1)
    wrong = np.flatnonzero(predicted != first.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return [
        Mistake(int(i) + 1, first.classes[first.labels[i]], first.classes[predicted[i]], float(confidence[i]))
        for i in worst
    ]
