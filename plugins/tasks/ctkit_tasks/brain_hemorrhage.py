"""Task ``brain-hemorrhage``: head CT with hemorrhage and without, in the paper's layout or in Kaggle's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError
from ctkit_formats.tables import labelled, rows_of
from ctkit_tasks.fingerprints import fingerprints_of
from ctkit_tasks.image_files import ImageFiles, LabelledFile, found_instead, image_paths
from ctkit_tasks.splitting import Units, chained, hold_out, units_of

_FOLDERS = ("a_without", "b_with")  # the paper's names of the classes
_TABLE = "labels.csv"
_WHOLE = "the set"  # of Kaggle's images, before they are split


class BrainHemorrhageParams(Params):
    """Where the set lies, and how Kaggle's is split."""

    root: InputPath = Field(
        description="folder with train/ and test/, each with a_without/ and b_with/ (the paper's private set), or with "
        "head_ct/ and labels.csv (Kaggle's Head CT - hemorrhage)"
    )
    test_share: float = Field(
        0.2, gt=0, lt=1, description="share of Kaggle's images, which have no split, for the test set"
    )
    split_seed: int = Field(0, ge=0, description="seed of the test set from Kaggle's images")


class BrainHemorrhage(ImageFiles[BrainHemorrhageParams]):
    """Head CT pictures of two classes; the protocols hold out training images for validation, as the paper does."""

    classes = ("normal", "hemorrhage")
    positive = "hemorrhage"

    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """The files of whichever layout is there."""
        for fault in self.lacking():
            raise RequestError(f"task brain-hemorrhage {fault}")
        if self._is_of_kaggle:
            return {_WHOLE: _in_table(self.params.root)}
        return {
            split: [
                LabelledFile(path, label)
                for label, folder in enumerate(_FOLDERS)
                for path in image_paths(self.params.root / split / folder)
            ]
            for split in ("train", "test")
        }

    def lacking(self) -> Iterator[str]:
        """Say that neither layout is there."""
        root = self.params.root
        folders = (root / split / folder for split in ("train", "test") for folder in _FOLDERS)
        if not self._is_of_kaggle and not all(folder.is_dir() for folder in folders):
            yield (
                "expects head_ct/ and labels.csv, or a_without/ and b_with/ in both train/ and test/ "
                f"in {root}, but {found_instead(root)}"
            )

    @property
    def _is_of_kaggle(self) -> bool:
        return (self.params.root / _TABLE).is_file() and (self.params.root / "head_ct").is_dir()

    def tables(self) -> Sequence[Path]:
        """Kaggle's table of labels."""
        table = self.params.root / _TABLE
        return [table] if table.is_file() else []

    def parted(self, readable: Mapping[str, tuple[LabelledFile, ...]]) -> Mapping[str, tuple[LabelledFile, ...]]:
        """Kaggle's images in two parts, near-duplicates on one side."""
        if _WHOLE not in readable:
            return readable
        files, units = readable[_WHOLE], self._units
        held = hold_out(units, self.params.test_share, self.params.split_seed)
        return {
            "train": tuple(file for file, out in zip(files, held, strict=True) if not out),
            "test": tuple(file for file, out in zip(files, held, strict=True) if out),
        }

    @cached_property
    def _units(self) -> Units:
        files = tuple(self._decodable[_WHOLE])
        labels = np.array([file.label for file in files])
        alike = fingerprints_of(self.shown, files).groups
        return units_of([file.path.name for file in files], labels, None, alike)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and near-duplicates that bind many images together."""
        return (*super().notes, *(chained(self._units, _WHOLE) if self._is_of_kaggle else ()))


def _in_table(root: Path) -> list[LabelledFile]:
    folder = root / "head_ct" / "head_ct" if (root / "head_ct" / "head_ct").is_dir() else root / "head_ct"
    found = labelled(root / _TABLE, _entries(root / _TABLE))
    return [LabelledFile(folder / name, label) for name, label in found]


def _entries(table: Path) -> Iterator[tuple[int, str, int]]:
    """Read ``labels.csv``: its header is ``id, hemorrhage`` with a space, and ``7`` means ``007.png``."""
    for line, row in rows_of(table):
        number, label = row.get("id", "").strip(), row.get("hemorrhage", "").strip()
        if not number.isdecimal() or label not in ("0", "1"):
            raise RequestError(
                f"task brain-hemorrhage expects columns id (a number) and hemorrhage (0 or 1) in {table}, "
                f"but line {line} is {row}"
            )
        yield line, f"{int(number):03d}.png", int(label)
