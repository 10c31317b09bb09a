"""The evidence of a whole data set, handed out as reducers ask for it: by group, in the group's order."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from functools import cached_property, partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Reducer
from ctkit.errors import DataError, PluginError, StorageError
from ctkit.pipeline_file import Arm, Chosen, Document, Step
from ctkit.session import Session
from ctkit.slices import Choice, packed, selection
from ctkit.stages.data import Data
from ctkit.stages.decoding import evidence_name
from ctkit.stages.describe import describe_again, described_reducers, evidence_key
from ctkit.storage import address

HELD = 1 << 26  #: bytes of evidence that are held in memory at once; what is larger is mapped


class Evidence:
    """The evidence of the data set as reducers ask for it, put together once for each reducer."""

    def __init__(self, session: Session, data: Data) -> None:
        self._session, self._data = session, data
        self._first = np.concatenate([[0], np.cumsum([len(reading.index) for reading in data.readings])])
        self._described = {evidence_key(chosen): chosen for chosen in described_reducers(session, data.catalogue)}
        self._whole: dict[str, NDArray[Any]] = {}
        self._last: tuple[Any, Any, Any] = None, None, None  # the whole, slices of it, their evidence

    def of(self, step: Step, *, any_knob: bool = False) -> selection.EvidenceOf:
        """Return what gives a step its evidence, for the knob that the pipeline gives or for any."""
        kind = step.reducer.build().evidence
        if kind == "none":
            return lambda _: None
        if kind == "slice":
            return partial(self._slices, self._all(step))
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
        return [
            {
                "evidence": address("chosen", reducer=step.reducer.identity, volumes=self._volumes),
                "scope": step.scope,
                "at": None if np.isnan(step.at) else step.at,
            }
            for step in arm.steps
        ]

    @cached_property
    def _volumes(self) -> str:
        """Digest of all volumes and of which of their slices can be read."""
        volumes = hashlib.sha256()
        for number, reading in enumerate(self._data.readings):
            volumes.update(f"{self._data.catalogue.address(number)}:{reading.index.tolist()}".encode())
        return volumes.hexdigest()

    def _load(self, chosen: Chosen[Reducer[Any]], volume: int) -> NDArray[Any]:
        """Evidence of one volume; rebuilt where it is damaged, unless somebody only looks.

        Where it is of the pairs for one knob alone and ``chosen`` asks for all, all volumes are described, at once.

        Raises ``DataError`` where there is none.
        """
        cache, catalogue = self._session.cache, self._data.catalogue
        at, reading, known = catalogue.address(volume), self._data.readings[volume], packed(cache, "evidence")
        content = known.read(evidence_name(known, chosen, at, reading))
        if content is None:
            if cache.looking:
                raise DataError(
                    "evidence in the cache is damaged, which `ctkit run` mends, or compares only the pairs that one"
                    " threshold asks for: `curve = true` in [run], or `ctkit reduce --curve`, compares all"
                )
            describe_again(self._session, catalogue, chosen)
            content = known.read(evidence_name(known, chosen, at, reading))
        if content is None:
            raise DataError("a volume gives other pixels than before; were files changed? Run again")
        return np.load(BytesIO(content), allow_pickle=False)  # type: ignore[no-any-return]  # numpy loads archives too

    def _all(self, step: Step) -> NDArray[Any]:
        """Slice evidence of the whole data set (n, ...)."""
        key = evidence_key(step.reducer)
        if key not in self._whole:
            readable = [volume for volume, reading in enumerate(self._data.readings) if reading.index.size]
            like = self._load(step.reducer, readable[0])
            pieces = (_as_like(like, self._load(step.reducer, volume), step.reducer) for volume in readable)
            self._whole[key] = self._gathered(pieces, like, int(self._first[-1]))
        return self._whole[key]

    def _slices(self, whole: NDArray[Any], slices: Ints) -> NDArray[Any]:
        """Evidence of the given slices: a copy, or where it is large, mapped."""
        size = len(slices) * whole[:1].nbytes
        if size <= HELD:
            return np.asarray(whole[slices])
        if np.array_equal(slices, np.arange(slices[0], slices[0] + len(slices))):
            return np.asarray(whole[slices[0] : slices[0] + len(slices)])
        if self._last[0] is not whole or not np.array_equal(self._last[1], slices):  # a budget asks many times
            parts = np.array_split(slices, 8 * size // HELD)
            self._last = whole, slices, self._gathered((whole[part] for part in parts), whole, len(slices))
        return np.asarray(self._last[2])

    def _gathered(self, pieces: Iterable[NDArray[Any]], like: NDArray[Any], n: int) -> NDArray[Any]:
        """Put pieces, in all (n, ...), together: in memory, or where they are large, in a file that has no name."""
        if n * like[:1].nbytes <= HELD:
            return np.concatenate(list(pieces))
        session = self._session
        folder = session.folder.path if session.cache.looking else session.cache.folder
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for piece in pieces:
                    np.ascontiguousarray(piece).tofile(file)
                return np.asarray(np.memmap(file, like.dtype, "r", shape=(n, *like.shape[1:])))
        except OSError as error:
            raise StorageError(f"cannot write the evidence of {n} slices to {folder}: {error}") from error

    def _pairs(self, chosen: Chosen[Reducer[Any]], slices: Ints) -> NDArray[Any]:
        """Condensed triangle of the given slices, all of one volume."""
        volume = int(self._data.table.volume[slices[0]])
        triangle = self._load(chosen, volume)
        n = len(self._data.readings[volume].index)
        within = slices - self._first[volume]
        return triangle if np.array_equal(within, np.arange(n)) else condensed_of(triangle, n, within)


def _as_like(like: NDArray[Any], piece: NDArray[Any], chosen: Chosen[Reducer[Any]]) -> NDArray[Any]:
    """The evidence of a volume. Raises ``PluginError`` where it is of another shape or type than that of the first."""
    kinds = [f"{one.dtype} {one.shape[1:]}" for one in (like, piece)]
    if kinds[0] != kinds[1]:
        raise PluginError(
            f"{chosen.title}: evidence must be of one shape and type, but is {kinds[0]} for each slice of one volume,"
            f" and {kinds[1]} of another; describe all volumes alike"
        )
    return piece


def condensed_of(triangle: NDArray[Any], n: int, chosen: Ints) -> NDArray[Any]:
    """Return the condensed triangle of the ``chosen`` of ``n`` items, in their order, from the triangle of all."""
    first, second = np.triu_indices(len(chosen), 1)
    i, j = np.minimum(chosen[first], chosen[second]), np.maximum(chosen[first], chosen[second])
    return np.asarray(triangle[n * i - i * (i + 1) // 2 + j - i - 1])
