"""Protocol ``linear``: how well does a plane among the trunk's features separate the classes?"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit.contracts import Evaluation, Floats, Ints, Params, Predictions
from ctkit_tasks.classification import Classification
from ctkit_tasks.parts import parts_of, predictions_of

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

Features = NDArray[np.float32]

#: Inverse strengths of regularisation that are tried, scikit-learn's C, from the strongest on.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)


class LinearParams(Params):
    """What the trunk sees."""

    size: int = Field(224, ge=16, le=1024, description="side that images are resized to, in pixels")


class Linear(Classification[LinearParams]):
    """Logistic regression on standardised features of the frozen trunk.

    Of seven strengths of regularisation the one with the lowest log loss on the validation images is taken.
    """

    def predict(self, job: Evaluation) -> Predictions:
        """Extract features once, choose the strength, fit, and predict the test images."""
        from ctkit_tasks.features import extract  # brings torch

        parts = parts_of(job)
        train, val, test = extract(job, (parts.train, parts.val, parts.test), self.params.size)
        fit = chosen_fit(train, parts.train.labels, val, parts.val.labels, len(job.task.classes))
        notes = [*parts.notes, f"C = {fit.model.C:g} was chosen on {len(val)} validation images"]
        if not fit.converged:
            notes.append("the logistic regression stopped before it converged")
        return predictions_of(job, fit.probabilities(test), notes)


@dataclass(frozen=True)
class Fit:
    """A logistic regression on standardised features."""

    scaler: StandardScaler
    model: LogisticRegression
    converged: bool
    classes: int

    def probabilities(self, features: Features) -> Floats:
        """Probabilities (n, classes) for features (n, d); 0 for a class without a training image."""
        found = np.zeros((len(features), self.classes))
        found[:, self.model.classes_] = self.model.predict_proba(self.scaler.transform(features.astype(np.float64)))
        return found


def chosen_fit(train: Features, labels: Ints, val: Features, val_labels: Ints, classes: int) -> Fit:
    """Fit to ``train`` (n, d) with each strength, and take the fit that loses least on ``val`` (m, d)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train.astype(np.float64))
    standardised = scaler.transform(train.astype(np.float64))
    model = LogisticRegression(max_iter=1000, warm_start=True)  # each strength starts from the one before
    fits = []
    for strength in STRENGTHS:
        converged = _fit(model.set_params(C=strength), standardised, labels)
        fits.append(Fit(scaler, copy.deepcopy(model), converged, classes))
    return min(fits, key=lambda fit: log_loss(fit.probabilities(val), val_labels))


def log_loss(probabilities: Floats, labels: Ints) -> float:
    """Mean negative log probability of the true classes; no image costs more than a probability of 1e-12."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def _fit(model: LogisticRegression, features: Floats, labels: Ints) -> bool:
    """Fit ``model`` in place; returns whether it converged."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
