from __future__ import annotations

from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from ctkit.contracts import Group, Slices
from ctkit_hashing.codes import packed
from ctkit_reducers.hash import Hash, HashParams

REFERENCE: dict[str, Any] = {
    "dhash": imagehash.dhash,
    "phash": imagehash.phash,
    "ahash": imagehash.average_hash,
    "wavelet": imagehash.whash,
}


def seen(grey: NDArray[np.uint8]) -> Slices:
    return Slices(grey, None, np.arange(len(grey)))


@pytest.mark.parametrize("algorithm", sorted(REFERENCE))
@pytest.mark.parametrize(("bits", "side"), [(64, 8), (256, 16)])
def test_codes_read_as_imagehash_writes_them(drifting: NDArray[np.uint8], algorithm: str, bits: int, side: int) -> None:
    codes = Hash(HashParams.model_validate({"algorithm": algorithm, "bits": bits})).describe(seen(drifting))
    assert codes.shape == (len(drifting), bits // 64)
    for code, image in zip(codes, drifting, strict=True):
        assert "".join(f"{word:016x}" for word in code) == str(REFERENCE[algorithm](Image.fromarray(image), side))


def test_a_constant_slice_and_no_slice_have_codes() -> None:
    assert Hash().describe(seen(np.zeros((1, 5, 5), np.uint8))).tolist() == [[0]]
    assert Hash().describe(seen(np.zeros((0, 5, 5), np.uint8))).shape == (0, 1)


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.sampled_from([64, 256]))))
def test_distances_count_differing_bits(bits: NDArray[np.bool_]) -> None:
    expected = (bits[:, None] != bits[None]).sum(axis=2)
    assert np.array_equal(Hash().distances(packed(bits), packed(bits)), expected)


@pytest.mark.parametrize(("bits", "high", "default"), [(64, 64, 6), (256, 256, 24)])
def test_the_threshold_ranges_over_the_bits_of_a_code(bits: int, high: int, default: int) -> None:
    reducer = Hash(HashParams.model_validate({"bits": bits}))
    assert reducer.knob is not None
    assert (reducer.knob.high, reducer.params.threshold) == (high, default)


def plain_loop(hashes: list[imagehash.ImageHash], at: int) -> list[bool]:
    """The published selection: each slice left removes every later one within the threshold."""
    left = [True] * len(hashes)
    for i, one in enumerate(hashes):
        if left[i]:
            for j in range(i + 1, len(hashes)):
                if left[j] and one - hashes[j] <= at:
                    left[j] = False
    return left


def _kept(codes: NDArray[Any], at: int) -> list[bool]:
    group = Group(np.zeros(len(codes), np.int64), np.arange(len(codes)), codes)
    kept: list[bool] = Hash().select(group, at, np.random.default_rng()).kept.tolist()
    return kept


@pytest.mark.real
def test_real_slices_are_selected_as_the_paper_selects_them(published_slices: dict[str, NDArray[np.uint8]]) -> None:
    hashes = {name: imagehash.dhash(Image.fromarray(image)) for name, image in published_slices.items()}
    codes = {name: Hash().describe(seen(image[None]))[0] for name, image in published_slices.items()}
    everything = sorted(published_slices)
    by_patient: dict[str, list[str]] = {}
    for name in everything:
        by_patient.setdefault(name.split("_")[0], []).append(name)

    counts: dict[int, tuple[int, int]] = {}
    for at in range(17):
        for names in (*by_patient.values(), everything):
            assert _kept(np.stack([codes[name] for name in names]), at) == plain_loop([hashes[n] for n in names], at)
        patients = sum(sum(_kept(np.stack([codes[n] for n in names]), at)) for names in by_patient.values())
        counts[at] = patients, sum(_kept(np.stack([codes[name] for name in everything]), at))
    assert len(everything) == 246
    assert {at: counts[at] for at in (2, 4, 6, 12)} == {2: (98, 98), 4: (59, 59), 6: (43, 43), 12: (20, 20)}
