from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from ctkit_torch.neighbours import TEMPERATURE, K, accuracy_among_others


def told(features: np.ndarray, labels: np.ndarray, patients: np.ndarray, number: int) -> bool:
    """Whether scikit-learn tells image ``number`` from those of other patients."""
    others = patients != patients[number]
    neighbours = KNeighborsClassifier(
        min(K, int(others.sum())),
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp((1 - distance) / TEMPERATURE),
    )
    return bool(neighbours.fit(features[others], labels[others]).predict(features[[number]])[0] == labels[number])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), images=st.integers(4, 60), patients=st.integers(2, 8), classes=st.integers(2, 4))
def test_accuracy_equals_scikit_learns_without_images_of_the_same_patient(
    seed: int, images: int, patients: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    features = (rng.normal(size=(images, 5)) + labels[:, None]).astype(np.float32)
    of_patient = np.concatenate([[0, 1], rng.integers(0, patients, images - 2)])
    expected = np.mean([told(features, labels, of_patient, number) for number in range(images)])
    assert accuracy_among_others(features, labels, of_patient) == pytest.approx(expected)


def test_a_patient_tells_nothing_of_itself() -> None:
    features = np.eye(4, dtype=np.float32).repeat(2, axis=0)  # two equal images of each patient, far from all others
    labels, patients = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.arange(4).repeat(2)
    assert accuracy_among_others(features, labels, patients) == 0, "two of three others are of the other class"
    assert accuracy_among_others(features, labels, np.arange(8)) == 1
