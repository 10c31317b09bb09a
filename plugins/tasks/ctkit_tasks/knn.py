"""Protocol ``knn``: do neighbours among the trunk's features share a class? Nothing is trained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts import Evaluation, Floats, Ints, Params, Predictions
from ctkit_tasks.classification import Classification
from ctkit_tasks.parts import parts_of, predictions_of
from ctkit_torch.neighbours import TEMPERATURE, K, directions, weighted_votes

Features = NDArray[np.float32]

_ROWS = 512  # test images whose similarities to all training images are held at a time


class KnnParams(Params):
    """How many neighbours, how they are weighted, and what the trunk sees."""

    k: int = Field(K, ge=1, description="number of neighbours")
    temperature: float = Field(
        TEMPERATURE, gt=0, description="a neighbour at cosine similarity s has weight exp(s / temperature)"
    )
    size: int = Field(224, ge=16, le=1024, description="side that images are resized to, in pixels")


class Knn(Classification[KnnParams]):
    """Weighted vote of the ``k`` training images with the most similar features (Wu et al. 2018, section 3.4)."""

    def predict(self, job: Evaluation) -> Predictions:
        """Extract features once and let neighbours vote on each test image."""
        from ctkit_tasks.features import extract  # brings torch

        parts = parts_of(job)
        train, test = extract(job, (parts.train, parts.test), self.params.size)
        notes = list(parts.notes)
        if self.params.k > len(train):
            notes.append(f"k was lowered from {self.params.k} to {len(train)}, the number of training images")
        votes = vote(train, parts.train.labels, test, self.params.k, self.params.temperature)
        probabilities = np.zeros((len(test), len(job.task.classes)))
        probabilities[:, : votes.shape[1]] = votes
        return predictions_of(job, probabilities, notes)


def vote(train: Features, labels: Ints, test: Features, k: int, temperature: float) -> Floats:
    """Weighted votes (m, classes), which sum to 1, for test features (m, d) by train features (n, d)."""
    known = directions(train).T
    starts = range(0, len(test), _ROWS)
    votes = [
        weighted_votes(directions(test[start : start + _ROWS]) @ known, labels, k, temperature) for start in starts
    ]
    return np.concatenate(votes)
