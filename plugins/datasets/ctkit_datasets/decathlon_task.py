"""Task ``decathlon``: what do the slices and pixels of a CT set of the Medical Segmentation Decathlon show?"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ctkit import rendering
from ctkit.contracts import InputPath, Params, SourceFile, Split, Stack, Task
from ctkit.errors import DataError, RequestError
from ctkit_datasets.decathlon import faults, labelled, parts_of
from ctkit_datasets.nifti_files import header_facts, is_label, read_slices, stored_voxels
from ctkit_datasets.nifti_layouts import dataset_json, stem

_SAME = 0.1  # mm that a mask may lie beside its scan
_READERS = 4  # cases in memory when all are read
_MOST_LABELS = 256  # of 8 bits
_reading = Lock()  # threads want the same volume at once

log = logging.getLogger(__name__)


class DecathlonTaskParams(Params):
    """Where a set lies, and how its slices are shown."""

    root: InputPath = Field(description="folder of one set, such as Task06_Lung")
    window: Literal["hu-window", "lung", "mediastinum", "abdomen", "bone"] = Field(
        "hu-window", description="HU that are shown; take the `intensity` that the backbones were trained with"
    )


@dataclass(frozen=True, eq=False)  # hashable as it is, by what it is
class Case:
    """A scan with its mask."""

    path: str  #: of the scan, below the root
    scan: Mapping[str, Any]  #: facts of its header
    mask: Mapping[str, Any]
    labels: tuple[int, ...]  #: last class that each slice shows
    spacing: tuple[float, float, float]  #: of slices, rows, columns, mm


class DecathlonTask(Task[DecathlonTaskParams]):
    """Axial slices of the cases with masks, by patient: 70 % train, 10 % val, 20 % test.

    A slice is labelled with the last class that it shows, such as background, liver, cancer. A case that cannot be
    read, or whose mask does not fit, is left out with a warning: a mask holds the numbers that ``dataset.json`` names,
    which may have gaps, within 0.01 where they are real. Two volumes are in memory at a time, in 8 bits; while all
    cases are read at the start, four.
    """

    version = 2
    masks = True

    def check(self, device: str | None) -> Iterable[str]:
        """Say what is missing of the layout, and which labels cannot be used."""
        root = self.params.root
        return [*faults(root)] or label_faults(dataset_json(root).get("labels"))

    def files(self) -> Iterator[SourceFile]:
        """``dataset.json``, every scan with a mask, and every mask."""
        scans = labelled(self.params.root)
        for path in ("dataset.json", *scans, *(mask_path(scan) for scan in scans)):
            status = (self.params.root / path).stat()
            yield SourceFile(path, status.st_size, status.st_mtime_ns)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Background and what the masks show, as ``dataset.json`` names it, in the order of the numbers there."""
        return tuple(self._labels.values())

    @cached_property
    def _labels(self) -> dict[int, str]:
        """Names by the numbers in masks, which may have gaps, in their order."""
        labels = dataset_json(self.params.root).get("labels", {})
        for fault in label_faults(labels):
            raise RequestError(fault)
        return dict(sorted((int(number), str(name)) for number, name in labels.items()))

    @property
    def positive_class(self) -> str | None:
        """The organ or tumour, where there is one."""
        return self.classes[1] if len(self.classes) == 2 else None

    def splits(self) -> Mapping[str, Split]:
        """The cases, one after the other."""
        return {name: _split_of(cases) for name, cases in self._cases.items()}

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One slice in the window, at its own size; black where all its pixels are equal."""
        case, place = self._places[split][number]
        with _reading:
            image: NDArray[np.uint8] = self._images(case)[place]
        return image

    def mask(self, split: str, number: int) -> NDArray[np.uint8]:
        """Its mask, of the same size."""
        case, place = self._places[split][number]
        with _reading:
            mask: NDArray[np.uint8] = self._masks(case)[place]
        return mask

    @property
    def notes(self) -> tuple[str, ...]:
        """The cases that were left out."""
        return tuple(f"cases left out: {count} ({why})" for why, count in Counter(self._left_out).items())

    @cached_property
    def _left_out(self) -> list[str]:
        return []

    @cached_property
    def _places(self) -> dict[str, list[tuple[Case, int]]]:
        """Of which case of its split each image is, and which of its slices."""
        return {
            name: [(case, place) for case in cases for place in range(len(case.labels))]
            for name, cases in self._cases.items()
        }

    @cached_property
    def _cases(self) -> dict[str, list[Case]]:
        root, parts = self.params.root, parts_of(labelled(self.params.root))
        with ThreadPoolExecutor(_READERS) as pool:  # decompression runs beside Python
            read = {name: list(pool.map(self._case, paths)) for name, paths in parts.items()}
        found = {name: [case for case in cases if isinstance(case, Case)] for name, cases in read.items()}
        self._left_out[:] = [case for cases in read.values() for case in cases if isinstance(case, str)]
        for note in self.notes:
            log.warning("%s", note)
        if empty := [name for name, cases in found.items() if not cases]:
            raise DataError(f"no case for {', '.join(empty)} in {root} can be read; three or more are needed")
        return found

    def _case(self, path: str) -> Case | str:
        """Read a case, or say why it is of no use."""
        root = self.params.root
        both = root / path, root / mask_path(path)
        try:
            scan, mask = (header_facts(file, file.stat().st_size, labels=True) for file in both)
            _check_fit(scan, mask)
            read_slices(both[0], scan, np.zeros(0, np.int64), "HU")
            labels = self._mask_values(path, mask).max(axis=(1, 2))
        except (DataError, OSError) as error:
            return getattr(error, "strerror", None) or str(error)
        x, y, z = scan["spacing"]
        return Case(path, scan, mask, tuple(labels.tolist()), (z, y, x))

    @cached_property
    def _images(self) -> Callable[[Case], NDArray[np.uint8]]:
        """The slices of a case, the last two kept: threads are in both where one ends."""
        return lru_cache(2)(self._rendered)

    def _rendered(self, case: Case) -> NDArray[np.uint8]:
        pixels = read_slices(self.params.root / case.path, case.scan, unit="HU")
        shown = np.zeros(case.scan["shape"], np.uint8)
        shown[pixels.index] = rendering.full_matrix(pixels.values, "HU", self.params.window)
        return shown

    @cached_property
    def _masks(self) -> Callable[[Case], NDArray[np.uint8]]:
        """The masks of a case, the last two kept: threads are in both where one ends."""
        return lru_cache(2)(lambda case: self._mask_values(case.path, case.mask))

    def _mask_values(self, scan: str, facts: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The masks (slices, rows, columns) of a scan in the common orientation. Raises ``DataError``."""
        stored, _ = stored_voxels(self.params.root / mask_path(scan), facts)
        found: NDArray[np.uint8] = np.zeros_like(stored, np.uint8)  # in the order of the file, which is faster
        named = 0
        for place, number in enumerate(self._labels):
            shows = is_label(stored, facts["scale"], number)
            found[shows], named = place, named + int(np.count_nonzero(shows))
        if named < stored.size:
            raise DataError("its mask holds other numbers than dataset.json names, or fractions of an interpolation")
        return np.flip(found.transpose(facts["axes"]), tuple(np.flatnonzero(facts["flips"]).tolist()))


def _check_fit(scan: Mapping[str, Any], mask: Mapping[str, Any]) -> None:
    if scan["shape"] != mask["shape"] or np.abs(np.subtract(scan["place"], mask["place"])).max() > _SAME:
        raise DataError("its mask has another size or lies elsewhere")
    if None in scan["spacing"]:
        raise DataError("its header has no usable spacing")


def label_faults(labels: Any) -> Iterator[str]:
    """Say why labels of a ``dataset.json`` cannot be the classes of masks."""
    if not isinstance(labels, dict) or len(labels) < 2 or not all(re.fullmatch(r"\d{1,5}", one) for one in labels):
        yield 'dataset.json must name its labels by number, such as {"0": "background", "1": "liver"}'
    elif "0" not in labels or len(labels) > _MOST_LABELS or len(set(map(str, labels.values()))) < len(labels):
        yield f"dataset.json must name a background, 0, and {_MOST_LABELS} labels at most, each with a name of its own"
    elif "ignore" in (str(name).lower() for name in labels.values()):
        yield "dataset.json names a label to ignore, which is not supported: give those voxels another label"


def mask_path(scan: str) -> str:
    """Where the mask of a scan lies, below the root."""
    return scan.replace("imagesTr", "labelsTr", 1)


def _split_of(cases: Sequence[Case]) -> Split:
    return Split(
        names=tuple(f"{stem(case.path)}/{number:04}" for case in cases for number in range(len(case.labels))),
        labels=np.array([label for case in cases for label in case.labels], np.int64),
        patients=tuple(stem(case.path) for case in cases for _ in case.labels),
        stacks=tuple(Stack(stem(case.path), len(case.labels), case.spacing) for case in cases),
    )
