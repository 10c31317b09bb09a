"""The evidence of a whole data set, handed out as reducers ask for it: by group, in the group's order."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Reducer
from ctkit.errors import DataError
from ctkit.pipeline_file import Arm, Chosen, Document, Step
from ctkit.session import Session
from ctkit.slices import Choice, selection
from ctkit.stages.data import Data
from ctkit.stages.decoding import evidence_path
from ctkit.stages.describe import describe_again, described_reducers, evidence_key
from ctkit.storage import address


class Evidence:
    """The evidence of the data set as reducers ask for it, loaded once for each reducer."""

    def __init__(self, session: Session, data: Data) -> None:
        self._session, self._data = session, data
        self._first = np.concatenate([[0], np.cumsum([len(reading.index) for reading in data.readings])])
        self._described = {evidence_key(chosen): chosen for chosen in described_reducers(session, data.catalogue)}
        self._whole: dict[str, NDArray[Any]] = {}

    def of(self, step: Step, *, any_knob: bool = False) -> selection.EvidenceOf:
        """Return what gives a step its evidence, for the knob that the pipeline gives or for any."""
        kind = step.reducer.build().evidence
        if kind == "none":
            return lambda _: None
        if kind == "slice":
            return self._all(step).__getitem__
        chosen = step.reducer if any_knob else self._described.get(evidence_key(step.reducer), step.reducer)
        return lambda slices: self._pairs(chosen, slices)

    def choices(self, arm: Arm, *, any_knob: bool = False) -> list[Choice]:
        """Return an arm's steps, ready to choose at the knobs that the pipeline gives, or at any."""
        return [
            Choice(step.reducer.build(), step.scope, step.at, self.of(step, any_knob=any_knob), step.reducer.title)
            for step in arm.steps
        ]

    def identities(self, arm: Arm) -> list[Document]:
        """Return, for each step of an arm, what its choice depends on: the evidence by its digest, scope and knob."""
        volumes = hashlib.sha256()
        for number, reading in enumerate(self._data.readings):
            volumes.update(f"{self._data.catalogue.address(number)}:{reading.index.tolist()}".encode())
        return [
            {
                "evidence": address("chosen", reducer=step.reducer.identity, volumes=volumes.hexdigest()),
                "scope": step.scope,
                "at": None if np.isnan(step.at) else step.at,
            }
            for step in arm.steps
        ]

    def _load(self, chosen: Chosen[Reducer[Any]], volume: int, mode: Literal["r"] | None = None) -> NDArray[Any]:
        """Evidence of one volume, mapped with ``mode`` "r"; rebuilt where it is damaged, unless somebody only looks.

        Where it is of the pairs for one knob alone and ``chosen`` asks for all, all volumes are described, at once.

        Raises ``DataError`` where there is none.
        """
        cache, catalogue = self._session.cache, self._data.catalogue
        path = evidence_path(cache, chosen, catalogue.address(volume), self._data.readings[volume])
        if not (path.exists() and cache.is_whole(path)):
            if cache.looking:
                raise DataError(
                    "evidence in the cache is damaged, which `ctkit run` mends, or compares only the pairs that one"
                    " threshold asks for: `curve = true` in [run], or `ctkit reduce --curve`, compares all"
                )
            describe_again(self._session, catalogue, chosen)
            path = evidence_path(cache, chosen, catalogue.address(volume), self._data.readings[volume])
        if not path.exists():
            raise DataError("a volume gives other pixels than before; were files changed? Run again")
        return np.load(path, mode, allow_pickle=False)  # type: ignore[no-any-return]  # numpy loads archives too

    def _all(self, step: Step) -> NDArray[Any]:
        """Slice evidence of the whole data set (n, ...)."""
        key = evidence_key(step.reducer)
        if key not in self._whole:
            readable = (volume for volume, reading in enumerate(self._data.readings) if reading.index.size)
            self._whole[key] = np.concatenate([self._load(step.reducer, volume) for volume in readable])
        return self._whole[key]

    def _pairs(self, chosen: Chosen[Reducer[Any]], slices: Ints) -> NDArray[Any]:
        """Condensed triangle of the given slices, all of one volume."""
        volume = int(self._data.table.volume[slices[0]])
        triangle = self._load(chosen, volume, "r")
        n = len(self._data.readings[volume].index)
        within = slices - self._first[volume]
        return triangle if np.array_equal(within, np.arange(n)) else condensed_of(triangle, n, within)


def condensed_of(triangle: NDArray[Any], n: int, chosen: Ints) -> NDArray[Any]:
    """Return the condensed triangle of the ``chosen`` of ``n`` items, in their order, from the triangle of all."""
    first, second = np.triu_indices(len(chosen), 1)
    i, j = np.minimum(chosen[first], chosen[second]), np.maximum(chosen[first], chosen[second])
    return np.asarray(triangle[n * i - i * (i + 1) // 2 + j - i - 1])
