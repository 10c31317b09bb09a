"""Perceptual hashes: slices are alike when few bits of their codes differ. With dHash and 6 bits, the paper's best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from ctkit.contracts import Bools, Decision, Group, Knob, Params, Slices, knob
from ctkit_hashing.codes import dhash, hamming, packed
from ctkit_reducers.code_index import KeptCodes, worth_indexing
from ctkit_reducers.similarity import Kept, Similarity


class HashParams(Params):
    """Which hash, and how long."""

    algorithm: Literal["dhash", "phash", "ahash", "wavelet"] = Field(
        "dhash",
        description="difference (the paper's), perceptual, average or wavelet hash, each as ImageHash computes it",
    )
    bits: Literal[64, 256] = Field(64, description="length of a code in bits")
    threshold: int = knob(
        6,
        low=0,
        high=256,
        unit="bits",
        description="largest number of different bits between near-duplicates, 24 for long codes",
    )

    @model_validator(mode="before")
    @classmethod
    def _long_codes_have_another_default(cls, data: Any) -> Any:
        return {"threshold": 24} | data if isinstance(data, dict) and data.get("bits") == 256 else data


class Hash(Similarity[HashParams]):
    """Drop a slice when at most ``threshold`` bits of its hash differ from an earlier kept one's.

    The default of 6 in 64 bits is the paper's; for 256 bits it is the same share of the bits, 24.
    """

    evidence = "slice"
    by_slice = True

    @property
    def knob(self) -> Knob | None:
        """The threshold, which goes up to the length of a code."""
        knob = super().knob
        return knob and replace(knob, high=self.params.bits)

    def describe(self, slices: Slices) -> NDArray[np.uint64]:
        """Codes (n, bits / 64); the bits are ImageHash's, in its order, the first one the highest."""
        side = {64: 8, 256: 16}[self.params.bits]
        if self.params.algorithm == "dhash":
            return packed(dhash(slices.grey, side))
        return packed(_imagehash(slices.grey, self.params.algorithm, side))

    def distances(self, some: NDArray[Any], many: NDArray[Any]) -> NDArray[Any]:
        """Hamming distances (m, n) in bits."""
        return hamming(some[:, None], many[None])

    def kept(self, at: float) -> Kept:
        """Index the kept codes where the threshold lets an index skip most of them."""
        if worth_indexing(self.params.bits, int(at)):
            return KeptCodes(self.distances, int(at), self.params.bits)
        return super().kept(at)

    def select(self, group: Group, at: float, rng: np.random.Generator) -> Decision:
        """Select at a whole number of bits, which keeps the comparisons in integers."""
        return super().select(group, int(at), rng)


def _imagehash(grey: NDArray[np.uint8], algorithm: str, side: int) -> Bools:
    """Hash (n, side * side) of slices (n, rows, columns) by one of ImageHash's other algorithms."""
    import imagehash  # brings scipy and pywt, which dHash does without

    of: Any = {"phash": imagehash.phash, "ahash": imagehash.average_hash, "wavelet": imagehash.whash}[algorithm]
    bits = np.empty((len(grey), side * side), bool)
    for number, image in enumerate(grey):
        bits[number] = of(Image.fromarray(image), hash_size=side).hash.ravel()
    return bits
