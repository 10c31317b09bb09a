"""The volumes of a data set on disk: one JSON line each, read back one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctkit.contracts import Ints, SourceFile, Volume
from ctkit.contracts.judge import Judge
from ctkit.promises import arranged, check_keys
from ctkit.storage import address

_TOLD = ("notes", "kernel", "thickness", "same_scan")  # of a volume: its pixels do not depend on it
_LINES, _INDEX = "volumes.jsonl", "volumes.npz"


def write_catalogue(folder: Path, volumes: Iterable[Volume], dataset: Mapping[str, Any]) -> None:
    """Write volumes in the order of patient, then key. ``dataset`` is the identity of the data set's plugin.

    The volumes pass through one at a time; only their names and places stay in memory. Raises
    ``CtkitError`` for the first one that does not hold together.
    """
    unsorted, plugin = folder / ".unsorted", f"data set {dataset['plugin'].rpartition(':')[2]!r}"
    places: list[tuple[str, str, int, int]] = []
    counts: list[int] = []
    ordered, repeated = False, 0
    with unsorted.open("wb") as target:
        for volume in arranged(plugin, volumes):
            files = [{"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns} for file in volume.files]
            line = json.dumps(vars(volume) | {"files": files}, separators=(",", ":")).encode() + b"\n"
            places.append((volume.patient, volume.key, target.tell(), len(line)))
            counts.append(len(volume))
            ordered = ordered or bool(volume.order)
            repeated += bool(volume.same_scan)
            target.write(line)
    check_keys(Judge(plugin), [key for _, key, *_ in places])
    ranks = sorted(range(len(places)), key=lambda number: places[number][:2])
    patients = {name: number for number, name in enumerate(dict.fromkeys(places[rank][0] for rank in ranks))}
    addresses = []
    with unsorted.open("rb") as source, (folder / _LINES).open("wb") as target:
        for rank in ranks:
            source.seek(places[rank][2])
            line = source.read(places[rank][3])
            target.write(line)
            contents = {name: value for name, value in json.loads(line).items() if name not in _TOLD}
            addresses.append(bytes.fromhex(address("volume", dataset=dataset, volume=contents)))
    unsorted.unlink()
    np.savez(
        folder / _INDEX,
        counts=np.array([counts[rank] for rank in ranks], np.int64),
        lengths=np.array([places[rank][3] for rank in ranks], np.int64),
        patients=np.array([patients[places[rank][0]] for rank in ranks], np.int64),
        addresses=np.frombuffer(b"".join(addresses), np.uint8).reshape(-1, 32),
        ordered=np.array(ordered),
        repeated=np.array(repeated),
    )


class Catalogue:
    """The volumes of a data set, in the order of patient and key; slices are numbered through in that order."""

    def __init__(self, folder: Path) -> None:
        self._lines = folder / _LINES
        with np.load(folder / _INDEX, allow_pickle=False) as index:
            self.counts: Ints = index["counts"]  #: (volumes,) slices of each
            self.patients: Ints = index["patients"]  #: (volumes,) number of each one's patient
            self.repeated = int(index.get("repeated", 0))  #: volumes that show the same scan as another one
            self.ordered = bool(index["ordered"])  #: whether volumes carry keys that order their slices in groups
            self._addresses = index["addresses"]
            lengths: Ints = index["lengths"]
        self._starts: Ints = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, number: int) -> Volume:
        with self._lines.open("rb") as file:
            file.seek(int(self._starts[number]))
            return _volume(file.readline())

    def __iter__(self) -> Iterator[Volume]:
        with self._lines.open("rb") as file:
            yield from map(_volume, file)

    def address(self, number: int) -> str:
        """Address of a volume: its files by path, size and modification time, and how they are read."""
        return bytes(self._addresses[number]).hex()


def _volume(line: bytes) -> Volume:
    fields = json.loads(line)
    fields["files"] = tuple(SourceFile(**file) for file in fields["files"])
    fields["slices"] = tuple((file, frame) for file, frame in fields["slices"])
    for name in ("spacing", "order", "notes"):
        fields[name] = tuple(fields[name])
    return Volume(**fields)
