"""The 2-D sets of MedMNIST v2 with one label per image, as files of its archive.

Yang et al. 2023, Scientific Data 10:41, doi:10.1038/s41597-022-01721-8; the archive is doi:10.5281/zenodo.10519652.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ctkit import quantities
from ctkit.errors import DataError
from ctkit_downloads.transfer import Transfer

if TYPE_CHECKING:
    from ctkit import Console

ENDPOINT = "https://zenodo.org/records/10519652/files"
Size = Literal[28, 64, 128, 224]  #: side of the images of a file, pixels
SIZES: tuple[Size, ...] = get_args(Size)
CITATION = "Yang et al. 2023, MedMNIST v2, doi:10.1038/s41597-022-01721-8"


@dataclass(frozen=True)
class Published:
    """What is published of a set."""

    images: tuple[int, int, int]  #: in train, val and test
    md5: tuple[str, str, str, str]  #: of the file of each of ``SIZES``
    classes: tuple[str, ...]  #: in the order of their numbers
    positive: str | None = None  #: the disease, in a set of two classes
    licence: str = "CC BY 4.0"


def _read() -> dict[str, Published]:
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        table: dict[str, dict[str, Any]] = tomllib.load(file)
    for facts in table.values():
        facts.update({key: tuple(value) for key, value in facts.items() if isinstance(value, list)})
    return {name: Published(**facts) for name, facts in table.items()}


SETS = _read()  #: the sets by their names
_3D = "it has volumes, and ctkit reads only 2-D sets"
#: Why other sets of MedMNIST are of no use here, by their names.
UNFIT = {
    "chestmnist": "it has several labels per image, but tasks of ctkit have one",
    "adrenalmnist3d": _3D, "fracturemnist3d": _3D, "nodulemnist3d": _3D, "organmnist3d": _3D, "synapsemnist3d": _3D,
    "vesselmnist3d": _3D,
}  # fmt: skip


def file_name(name: str, size: int) -> str:
    """Return the name of a set's file, such as ``"organsmnist_64.npz"``."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def md5(path: Path) -> str:
    """MD5 of a file, in hex digits; a file of gigabytes takes seconds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def check_md5(path: Path, listed: str) -> None:
    """Raise ``DataError`` where a file is not the published one."""
    if (found := md5(path)) != listed:
        raise DataError(f"the server sent another file than the published one: its MD5 is {found}, not {listed}")


@dataclass(frozen=True)
class FileOrder:
    """The file of a set to be fetched into ``folder``; nothing is asked of the server before its size is."""

    name: str
    size: Size
    folder: Path
    endpoint: str

    @property
    def _published(self) -> str:
        return SETS[self.name].md5[SIZES.index(self.size)]

    @property
    def path(self) -> Path:
        """Where the file will lie."""
        return self.folder / file_name(self.name, self.size)

    @cached_property
    def _transfer(self) -> Transfer:
        return Transfer(f"{self.endpoint.rstrip('/')}/{self.path.name}?download=1", self.path)

    @cached_property
    def _whole(self) -> bool:
        return self.path.is_file() and md5(self.path) == self._published

    @cached_property
    def missing(self) -> int:
        """Bytes that are not in the folder yet."""
        return 0 if self._whole else self._transfer.missing

    @property
    def summary(self) -> str:
        """What it is and how large."""
        held = self.path.stat().st_size if self._whole else self._transfer.size
        images = sum(SETS[self.name].images)
        return f"{self.name}: {images} images of {self.size} pixels, {quantities.size(held)}"

    @property
    def terms(self) -> tuple[str, ...]:
        """Licence and citation."""
        return f"licence: {SETS[self.name].licence}", f"cite: {CITATION}"

    def fetch(self, console: Console | None = None) -> str:
        """Fetch the file and compare its MD5 with the published one.

        Raises ``DataError`` where the server cannot be reached or sends another file, of which nothing stays.
        """
        if not self._whole:
            self._transfer.fetch(lambda part: check_md5(part, self._published), console)
        use = f'use = "{self.name}"' if self.name == "organsmnist" else f'use = "medmnist", name = "{self.name}"'
        size = "" if self.size == 28 else f", size = {self.size}"
        return f"{self.path} is whole; in a pipeline file: {use}, root = ...{size}"
