"""Batches of an arm's slices, read from the slice store; which slices a step sees depends on seed, step and rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ctkit.contracts import Ints, Rows
from ctkit.errors import DataError
from ctkit_models.sampling import SAMPLERS


class Batches(Dataset[Tensor]):
    """Batch number ``step`` is ``batches[step]``; epochs follow each other without end, each in an order of its own.

    ``batch`` is what all ``world`` processes see together; ``sampler`` is a name in ``SAMPLERS``. Where a batch is cut
    into ``parts``, these take the place of batches.
    """

    def __init__(
        self,
        rows: Rows,
        seed: int,
        batch: int,
        *,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        sampler: str = "uniform",
    ) -> None:
        self.rows = rows
        self.seed = seed
        self.batch = batch
        self.rank, self.world, self.parts = rank, world, parts
        self._draw = SAMPLERS[sampler]
        self._offsets: dict[int, int] = {}
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def members(self, step: int) -> Ints:
        """(batch,) positions in the arm of the slices that all processes see at ``step``."""
        epoch, place = divmod(step, len(self.rows) // self.batch)
        if epoch != self._epoch:  # the order of a large arm takes milliseconds to draw
            rng = np.random.default_rng([self.seed, epoch])
            self._epoch, self._order = epoch, self._draw(self.rows.volume, self.batch, rng)
        return self._order[place * self.batch : (place + 1) * self.batch]

    def __getitem__(self, number: int) -> Tensor:
        """(batch / parts / world, size, size) uint8: this process's piece of a part."""
        step, part = divmod(number, self.parts)
        piece, pieces = part * self.world + self.rank, self.parts * self.world
        own = slice(piece * self.batch // pieces, (piece + 1) * self.batch // pieces)
        return torch.from_numpy(self.pixels(self.members(step)[own]))

    def pixels(self, positions: Ints) -> NDArray[np.uint8]:
        """Slices (n, size, size) by their positions (n,) in the arm."""
        return np.stack([self._slice(position) for position in positions])

    def _slice(self, position: int) -> NDArray[np.uint8]:
        """One slice (size, size). Read, not mapped: a map holds a file handle, and there are thousands of shards."""
        shard, side = int(self.rows.shard[position]), self.rows.size
        if shard not in self._offsets:
            self._offsets[shard] = _data_offset(self.rows.shards[shard], side)
        offset = self._offsets[shard] + int(self.rows.row[position]) * side * side
        pixels = np.fromfile(self.rows.shards[shard], dtype=np.uint8, count=side * side, offset=offset)
        return pixels.reshape(side, side)


class StoredSlices(Dataset[tuple[Tensor, str]]):
    """Slice number ``n`` as (image, source): (1, size, size) float32 on the scale 0..1, and where it comes from."""

    def __init__(self, rows: Rows, sources: Sequence[str]) -> None:
        self.rows, self.sources = rows, sources
        self._batches = Batches(rows, seed=0, batch=1)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, str]:
        if not -len(self) <= number < len(self):
            raise IndexError(number)  # which ends a loop
        image = torch.from_numpy(self._batches.pixels(np.array([number % len(self)])))
        return image.float() / 255, self.sources[number]


def _data_offset(shard: Path, side: int) -> int:
    """Bytes before the first slice of a ``.npy`` file (rows, side, side) uint8."""
    with shard.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read_header(file)
        if shape[1:] != (side, side) or by_columns or dtype != np.uint8:
            raise DataError(f"a shard of the slice store is damaged: it is {dtype} {shape}; remove it and run again")
        return file.tell()
