"""Pictures for the report: some slices that an arm keeps, and some that it drops beside those that stand for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit import compute
from ctkit.contracts import Dataset, Ints
from ctkit.files import writing
from ctkit.pipeline_file import Chosen, Rendering
from ctkit.session import Session
from ctkit.slices import Pictures, Selection, Table, rendering, write_pictures
from ctkit.stages.data import Data
from ctkit.stages.decoding import Wanted, read
from ctkit.storage import ArmFolder, address, place

KEPT, DROPPED, VOLUMES = 24, 12, 12  #: pictures an arm shows, and volumes they are taken from
SIDE = 128  #: pixels


@dataclass(frozen=True)
class Shown:
    """Numbers, in the table, of the slices that an arm's pictures show."""

    kept: Ints
    dropped: Ints
    stand_in: Ints  #: of each of ``dropped``; empty where the arm names none
    distance: NDArray[np.float32]

    @property
    def slices(self) -> Ints:
        """All of them."""
        return np.unique(np.concatenate([self.kept, self.dropped, self.stand_in]))


def draw(session: Session, data: Data) -> None:
    """Put ``pictures.npz`` into each arm's folder; of an arm that draws, its first selection is shown."""
    first = {chosen.arm.id: chosen for chosen in reversed(list(data.selections.values()))}
    look = [session.pipeline.rendering.levels, rendering.VERSION]
    addresses = {name: address("pictures", selection=chosen.address, rendering=look) for name, chosen in first.items()}
    missing = [name for name, at in addresses.items() if not session.cache.holds("pictures", at)]
    shown = {name: choose(data.table, first[name].selection) for name in missing}
    if shown:
        with session.work("pictures"):
            wanted = np.unique(np.concatenate([one.slices for one in shown.values()]))
            images = images_of(session, data, wanted)
            for name, one in shown.items():
                _save(session, name, addresses[name], one, images)
    for name, at in addresses.items():
        if session.cache.holds("pictures", at):
            place(ArmFolder(session.cache.path("pictures", at)).pictures, session.folder.arm(name).pictures)


def choose(table: Table, selection: Selection) -> Shown:
    """Choose evenly spread kept slices, and dropped ones from the smallest distance to the largest."""
    few = np.isin(table.volume, spread(np.unique(table.volume), VOLUMES))
    kept = spread(np.flatnonzero(selection.kept & few), KEPT)
    replaced = np.flatnonzero(~selection.kept & (selection.by >= 0) & few & np.isfinite(selection.distance))
    if replaced.size:
        by_distance = replaced[np.argsort(selection.distance[replaced], kind="stable")]
        dropped = spread(by_distance, DROPPED)
        return Shown(kept, dropped, selection.by[dropped], selection.distance[dropped])
    dropped = spread(np.flatnonzero(~selection.kept & few), DROPPED)
    return Shown(kept, dropped, np.zeros(0, np.int64), np.zeros(0, np.float32))


def spread(numbers: Ints, most: int) -> Ints:
    """Return at most ``most`` of the numbers, evenly spread."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).round().astype(np.int64)]


def images_of(session: Session, data: Data, slices: Ints) -> dict[int, NDArray[np.uint8]]:
    """Return a picture of each slice, by number in the table, that can still be read."""
    catalogue, table = data.catalogue, data.table
    volumes = np.unique(table.volume[slices])
    numbers = {int(volume): slices[table.volume[slices] == volume] for volume in volumes}
    again = partial(Wanted.again, session.cache, catalogue)
    items = (again(number, table.index[of_volume]) for number, of_volume in numbers.items())
    work = partial(picture_volume, session.pipeline.dataset, session.pipeline.rendering)
    images: dict[int, NDArray[np.uint8]] = {}
    for outcome in session.parallel("pictures", work, items, total=len(numbers), name=lambda item: item.address):
        if isinstance(outcome, compute.Done):
            index, pictures = outcome.result
            of_volume = numbers[outcome.item.number]
            positions = np.searchsorted(table.index[of_volume], index)
            images.update(zip(of_volume[positions].tolist(), pictures, strict=True))
    return images


def picture_volume(chosen: Chosen[Dataset[Any]], look: Rendering, item: Wanted) -> tuple[Ints, NDArray[np.uint8]]:
    """Read some slices of a volume; return their numbers in it and their pictures. Runs in a worker process."""
    pixels = read(chosen, item)
    span = item.reading.span if item.reading else None
    return pixels.index, rendering.training(pixels.values, pixels.unit, look.levels, SIDE, span)


def _save(session: Session, arm: str, at: str, shown: Shown, images: dict[int, NDArray[np.uint8]]) -> None:
    """Write an arm's pictures; they are kept for later only where all of them could be made."""
    blank = np.zeros((SIDE, SIDE), np.uint8)

    def stack(numbers: Ints) -> NDArray[np.uint8]:
        pictures = [images.get(number, blank) for number in numbers.tolist()]
        return np.stack(pictures) if pictures else np.zeros((0, SIDE, SIDE), np.uint8)

    pictures = Pictures(stack(shown.kept), stack(shown.dropped), stack(shown.stand_in), shown.distance)
    if set(shown.slices.tolist()) <= images.keys():
        with session.cache.entry("pictures", at) as folder:
            write_pictures(ArmFolder(folder).pictures, pictures)
    else:
        with writing(session.folder.arm(arm).pictures) as temporary:
            write_pictures(temporary, pictures)
