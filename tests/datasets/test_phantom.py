from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from ctkit.contracts import Volume
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_phantom.body import LENGTH
from ctkit_phantom.lesions import FIRST_PATIENT, lesion_slices


def volumes(phantom: Phantom) -> list[Volume]:
    return [found for found in phantom.arrange(()) if isinstance(found, Volume)]


def test_there_is_one_volume_a_patient_with_the_geometry_asked_for() -> None:
    phantom = Phantom(PhantomParams(patients=3, slices=7, matrix=48, slice_spacing=2.5))
    found = volumes(phantom)
    assert [volume.patient for volume in found] == ["phantom-0", "phantom-1", "phantom-2"]
    assert len({volume.key for volume in found}) == 3
    for volume in found:
        pixels = phantom.read(volume)
        assert len(volume) == 7
        assert pixels.values.shape == (7, volume.rows, volume.columns) == (7, 48, 48)
        assert volume.spacing[2] == 2.5
        assert volume.spacing[0] == pytest.approx(420 / 48, rel=0.15)
        assert (pixels.unit, pixels.values.dtype, pixels.skipped) == ("HU", np.int16, ())
        assert volume.source(3) == volume.key


def test_the_same_parameters_give_the_same_pixels_in_any_order_and_number() -> None:
    one, other = (Phantom(PhantomParams(patients=n, slices=9, matrix=40)) for n in (2, 5))
    volume = volumes(one)[1]
    again = volumes(other)[1]
    everything = one.read(volume).values
    chosen = other.read(again, np.array([7, 2]))
    np.testing.assert_array_equal(chosen.index, [7, 2])
    np.testing.assert_array_equal(chosen.values, everything[[7, 2]])


def test_another_seed_gives_other_patients() -> None:
    one, other = (Phantom(PhantomParams(patients=1, slices=3, matrix=40, seed=seed)) for seed in (0, 1))
    assert (one.read(volumes(one)[0]).values != other.read(volumes(other)[0]).values).mean() > 0.3


def test_the_share_of_patients_with_lesions_is_the_one_asked_for() -> None:
    def share(lesions: float) -> float:
        phantom = Phantom(PhantomParams(patients=60, slices=1, matrix=32, lesions=lesions))
        return float(np.mean([bool(phantom._scan(number).body.lesions) for number in range(60)]))

    assert (share(0.0), share(1.0)) == (0.0, 1.0)
    assert 0.3 < share(0.5) < 0.7


def test_the_lesions_of_a_volume_are_marked_slice_by_slice() -> None:
    phantom = Phantom(PhantomParams(patients=1, slices=60, slice_spacing=10.0, matrix=48, lesions=1.0))
    marked = phantom.lesions(0)
    assert marked.shape == (60, 48, 48)
    assert 5 <= marked.any((1, 2)).sum() <= 40
    assert not marked[50:].any()


def test_a_volume_higher_than_the_body_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ValidationError, match=r"must be at most 600 mm.*but is 700 mm"):
        PhantomParams(slices=70, slice_spacing=10.0)
    assert PhantomParams(slices=60, slice_spacing=10.0).slices * 10 == LENGTH


def test_no_patient_of_the_labelled_slices_is_one_of_the_data_set() -> None:
    phantom = Phantom(PhantomParams(patients=5))
    assert PhantomParams.model_json_schema()["properties"]["patients"]["maximum"] <= FIRST_PATIENT
    assert not {phantom.volume(number).patient for number in range(5)} & set(lesion_slices(0, 5, 32).patients)
