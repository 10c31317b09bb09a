"""Nearest neighbours among features, weighted by their similarity (Wu et al. 2018, section 3.4). Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Floats, Ints

K = 20  #: neighbours that vote, where the user does not say
TEMPERATURE = 0.07  #: a neighbour at cosine similarity s has weight exp(s / temperature)


def directions(features: NDArray[np.float32]) -> Floats:
    """Features (n, width) of length 1; a feature of zeros stays zero."""
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12))


def weighted_votes(similarity: Floats, labels: Ints, k: int, temperature: float) -> Floats:
    """Votes (m, classes), which sum to 1, of the ``k`` most similar of ``n`` images with ``labels`` (n,).

    ``similarity`` (m, n) is minus infinity where an image has no say; in every row one must have.
    """
    nearest = np.argpartition(-similarity, min(k, len(labels)) - 1, axis=1)[:, :k]
    closeness = np.take_along_axis(similarity, nearest, axis=1)
    weight = np.exp((closeness - closeness.max(axis=1, keepdims=True)) / temperature)  # at most 1: no overflow
    votes = np.einsum("mk,mkc->mc", weight, np.eye(labels.max() + 1)[labels[nearest]])
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def accuracy_among_others(features: NDArray[np.float32], labels: Ints, patients: Ints) -> float:
    """Share of images whose class their nearest neighbours tell, of which none is of the same patient.

    Features (n, width), labels (n,) and numbers of patients (n,), of whom there are two at least.
    """
    known = directions(features)
    similarity = np.where(patients[:, None] == patients, -np.inf, known @ known.T)
    votes = weighted_votes(similarity, labels, K, TEMPERATURE)
    return float(np.mean(votes.argmax(axis=1) == labels))
