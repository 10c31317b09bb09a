"""Task ``brain-hemorrhage``: head CT with hemorrhage and without, in the paper's layout or in Kaggle's."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError
from ctkit_tasks.image_files import ImageFiles, LabelledFile, found_instead, image_paths, read_table
from ctkit_tasks.splitting import hold_out, units_of

_FOLDERS = ("a_without", "b_with")  # the paper's names of the classes
_TABLE = "labels.csv"


class BrainHemorrhageParams(Params):
    """Where the set lies, and how Kaggle's is split."""

    root: InputPath = Field(
        description="folder with train/ and test/, each with a_without/ and b_with/ (the paper's private set), or with "
        "head_ct/ and labels.csv (Kaggle's Head CT - hemorrhage)"
    )
    test_share: float = Field(0.2, gt=0, lt=1, description="share of Kaggle's images, which have no split, to test on")
    split_seed: int = Field(0, ge=0, description="another seed draws another test part from Kaggle's images")


class BrainHemorrhage(ImageFiles[BrainHemorrhageParams]):
    """Head CT pictures of two classes; the protocols hold out training images for validation, as the paper does."""

    classes = ("normal", "hemorrhage")
    positive = "hemorrhage"

    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """The files of whichever layout is there."""
        for fault in self.lacking():
            raise RequestError(f"task brain-hemorrhage {fault}")
        if self._is_of_kaggle:
            return self._drawn()
        return {split: _in_folders(self.params.root / split) for split in ("train", "test")}

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

    def _drawn(self) -> dict[str, list[LabelledFile]]:
        files = _in_table(self.params.root)
        labels = np.array([file.label for file in files])
        units = units_of([file.path.name for file in files], labels, None)
        held = hold_out(units, self.params.test_share, self.params.split_seed)
        return {
            "train": [file for file, out in zip(files, held, strict=True) if not out],
            "test": [file for file, out in zip(files, held, strict=True) if out],
        }


def _in_folders(split: Path) -> list[LabelledFile]:
    return [LabelledFile(path, label) for label, folder in enumerate(_FOLDERS) for path in image_paths(split / folder)]


def _in_table(root: Path) -> list[LabelledFile]:
    """Read ``labels.csv``: its header is ``id, hemorrhage`` with a space, and ``7`` means ``007.png``."""
    folder = root / "head_ct" / "head_ct" if (root / "head_ct" / "head_ct").is_dir() else root / "head_ct"
    files = []
    for row in csv.DictReader(read_table(root / _TABLE).splitlines(), skipinitialspace=True):
        number, label = row.get("id") or "", row.get("hemorrhage") or ""
        if not number.isdigit() or label.strip() not in ("0", "1"):
            raise RequestError(
                f"task brain-hemorrhage expects columns id (a number) and hemorrhage (0 or 1) in {root / _TABLE}, "
                f"but one row is {dict(row)}"
            )
        files.append(LabelledFile(folder / f"{int(number):03d}.png", int(label)))
    return files
