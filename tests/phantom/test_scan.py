from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from ctkit_phantom.body import Body
from ctkit_phantom.scan import Scan


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """One body from the abdomen to the neck: (60, 128, 128) HU."""
    scan = Scan(Body(seed=5, number=0), 128)
    return np.stack([scan.slice(z, i) for i, z in enumerate(range(5, 600, 10))])


def test_a_body_holds_the_tissues_of_ct_in_plausible_amounts(whole: np.ndarray) -> None:
    chest = whole[26:42]
    inside = chest > -700
    air = (whole < -900).mean()
    lung = ((chest > -920) & (chest < -700)).mean()
    soft = ((whole > 0) & (whole < 120)).mean()
    fat = ((whole > -140) & (whole < -60)).mean()
    bone = (whole > 250).mean()
    assert 0.4 < air < 0.85
    assert 0.05 < lung < 0.35
    assert 0.05 < soft < 0.4
    assert 0.02 < fat < 0.3
    assert 0.003 < bone < 0.06
    assert 0.15 < inside.mean() < 0.6
    assert whole.min() >= -1024


def test_there_are_two_lungs_in_the_chest_and_none_in_the_abdomen(whole: np.ndarray) -> None:
    def lungs(slice_: np.ndarray) -> int:
        smooth = ndimage.gaussian_filter(slice_.astype(float), 1.0)
        dark = (smooth < -600) & ~_outside(smooth)
        labels, count = ndimage.label(ndimage.binary_opening(dark, iterations=2))
        return int(sum((labels == label).sum() > 150 for label in range(1, count + 1)))

    assert lungs(whole[33]) == 2
    assert lungs(whole[3]) == 0


def _outside(slice_: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(slice_ < -500)
    return np.asarray(labels == labels[0, 0])


def test_the_liver_lies_on_the_right_and_the_back_below() -> None:
    """Rows run to the back, columns to the patient's left."""
    body = Body(seed=5, number=0)
    body.noise = 0.0
    scan = Scan(body, 128)
    liver = np.abs(scan.slice(165.0, 0) - body.tissues["liver"]) < 2
    bone = scan.slice(165.0, 0) > 250
    assert np.argwhere(liver)[:, 1].mean() < 60
    assert np.argwhere(bone)[:, 0].mean() > 70
    heart = np.abs(scan.slice(300.0, 0) - body.tissues["heart"]) < 2
    assert np.argwhere(heart)[:, 1].mean() > 64


def test_neighbouring_slices_are_more_alike_than_distant_ones_and_than_patients(whole: np.ndarray) -> None:
    def unlike(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(float) - b).mean())

    steps = {step: np.mean([unlike(whole[i], whole[i + step]) for i in range(0, 50, 5)]) for step in (1, 3, 9)}
    assert steps[1] < 0.7 * steps[3] < 0.7 * steps[9]
    scans = [Scan(Body(5, number), 128) for number in range(4)]
    patients = np.mean([unlike(a.slice(300.0, 0), b.slice(300.0, 0)) for a, b in itertools.combinations(scans, 2)])
    assert patients > 2 * unlike(scans[0].slice(300.0, 0), scans[0].slice(302.0, 1))


def test_noise_differs_between_slices_and_is_correlated_like_that_of_reconstructed_ct() -> None:
    scan = Scan(Body(seed=5, number=0), 256)
    one, other = (scan.slice(300.0, number).astype(float) for number in (0, 1))
    noise = (one - other)[96:160, 96:160]
    clean = scan.slice(300.0, 0).astype(float)[96:160, 96:160]
    assert 5 < noise.std() / np.sqrt(2) < 60
    spectrum = np.abs(np.fft.fft2(noise - noise.mean())) ** 2
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64)] * 2))
    low, middle, high = (
        spectrum[(radius > a) & (radius <= b)].mean() for a, b in ((0, 0.05), (0.15, 0.25), (0.45, 0.7))
    )
    assert middle > low
    assert middle > high
    assert clean.std() > 0


def test_lesions_are_where_the_mask_says_and_change_nothing_else() -> None:
    for number in range(4):
        diseased, healthy = (Scan(Body(3, number, diseased), 96) for diseased in (True, False))
        assert 6 <= len(diseased.body.lesions) <= 12
        masks = {z: diseased.lesions(z) for z in range(120, 440, 40)}
        z = max(masks, key=lambda z: masks[z].sum())
        change = np.abs(diseased.slice(z, 1).astype(int) - healthy.slice(z, 1))
        assert masks[z].sum() * diseased.pixel**2 > 500
        assert not (change > 25)[~ndimage.binary_dilation(masks[z], iterations=4)].any()
        assert (change[masks[z]] > 0).mean() > 0.95
