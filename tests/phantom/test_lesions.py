from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctkit_phantom.body import Body
from ctkit_phantom.lesions import AREA, CLASSES, FIRST_PATIENT, _heights_with_lesions, lesion_slices
from ctkit_phantom.scan import Scan


def test_slices_come_with_labels_and_patients_half_of_them_with_a_lesion() -> None:
    images, labels, patients, *_ = lesion_slices(0, 6, 48, slices=3)
    assert images.shape == (18, 48, 48)
    assert images.dtype == np.int16
    np.testing.assert_array_equal(labels, np.repeat([0, 1] * 3, 3))
    assert len(set(patients)) == 6
    assert all(len(set(labels[np.array(patients) == patient])) == 1 for patient in set(patients))
    assert CLASSES[1] == "lesion"


def test_a_patient_depends_on_seed_and_number_only() -> None:
    everyone = lesion_slices(3, 5, 40, slices=2)
    last = lesion_slices(3, 1, 40, slices=2, first_patient=FIRST_PATIENT + 4)
    np.testing.assert_array_equal(everyone.images[8:], last.images)
    assert everyone.patients[8:] == last.patients
    assert (lesion_slices(4, 1, 40).images != lesion_slices(3, 1, 40).images).any()


@pytest.mark.parametrize("number", range(4))
def test_lesions_are_large_enough_to_be_seen_at_64_pixels(number: int) -> None:
    body = Body(11, FIRST_PATIENT + number, diseased=True)
    scan = Scan(body, 64)
    for z in _heights_with_lesions(body, 2, AREA):
        assert 3.5 <= np.sqrt(scan.lesions(z).sum()) <= 24


def test_no_simple_statistic_of_a_slice_tells_its_class() -> None:
    """A task that the mean or the spread of grey levels solves would measure nothing."""
    images, labels, *_ = lesion_slices(0, 80, 32, slices=1)
    flat = images.reshape(len(images), -1).astype(float)
    for statistic in (flat.mean(1), flat.std(1), (flat > -200).mean(1), (flat < -700).mean(1), (flat > 200).mean(1)):
        area = roc_auc_score(labels, statistic)
        assert max(area, 1 - area) < 0.7
