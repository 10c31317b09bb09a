"""The 2-D sets of MedMNIST v2 with one label an image, as files of its archive.

Yang et al. 2023, Scientific Data 10:41, doi:10.1038/s41597-022-01721-8; the archive is doi:10.5281/zenodo.10519652.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

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
    """What is published of a set: images in train, val and test, the MD5 of the file of each size, the licence."""

    images: tuple[int, int, int]
    md5s: tuple[str, str, str, str]
    licence: str = "CC BY 4.0"

    def md5(self, size: int) -> str:
        """MD5 of the file with images of ``size`` pixels."""
        return self.md5s[get_args(Size).index(size)]


# fmt: off
#: The sets by their names.
FILES = {
    "bloodmnist": Published((11959, 1712, 3421), (
        "7053d0359d879ad8a5505303e11de1dc", "2b94928a2ae4916078ca51e05b6b800b",
        "adace1e0ed228fccda1f39692059dd4c", "b718ff6835fcbdb22ba9eacccd7b2601",
    )),
    "breastmnist": Published((546, 78, 156), (
        "750601b1f35ba3300ea97c75c52ff8f6", "742edef2a1fd1524b2efff4bd7ba9364",
        "363e4b3f8d712e9b5de15470a2aaadf1", "b56378a6eefa9fed602bb16d192d4c8b",
    )),
    "dermamnist": Published((7007, 1003, 2005), (
        "0744692d530f8e62ec473284d019b0c7", "b70a2f5635c6199aeaa28c31d7202e1f",
        "2defd784463fa5243564e855ed717de1", "8974907d8e169bef5f5b96bc506ae45d",
    ), "CC BY-NC 4.0"),
    "octmnist": Published((97477, 10832, 1000), (
        "c68d92d5b585d8d81f7112f81e2d0842", "e229e9440236b774d9f0dfef9d07bdaf",
        "0a97e76651ace45c5d943ee3f65b63ae", "abc493b6d529d5de7569faaef2773ba3",
    )),
    "organamnist": Published((34561, 6491, 17778), (
        "68e3f8846a6bd62f0c9bf841c0d9eacc", "2dcccc29b88e6da5a01161ef20cda288",
        "eeae80d0a227a8d099027e1b3cfd3b60", "50747347e05c87dd3aaf92c49f9f3170",
    )),
    "organcmnist": Published((12975, 2392, 8216), (
        "b9ceb9546e10131b32923c5bbeaea2b1", "3ce34a8724ea6f548e6db4744d03b6a9",
        "773c1f009daa3fe5d9a2a201b2a7ed94", "050f5e875dc056f6768abf94ec9995d1",
    )),
    "organsmnist": Published((13932, 2452, 8827), (
        "9ab87b696fb54e2a387ebe992d6ed5f1", "53a6d115339d874c25e309a994ff46d3",
        "ded0c5fa01a95dc4978b956f613e9b8e", "b354719e553fbbb2513d5533f52a4cb1",
    )),
    "pathmnist": Published((89996, 10004, 7180), (
        "a8b06965200029087d5bd730944a56c1", "55aa9c1e0525abe5a6b9d8343a507616",
        "ac42d08fb904d92c244187169d1fd1d9", "2c51a510bcdc9cf8ddb2af93af1eadec",
    )),
    "pneumoniamnist": Published((4708, 524, 624), (
        "28209eda62fecd6e6a2d98b1501bb15f", "8f4eceb4ccffa70c672198ea285246c6",
        "05b46931834c231683c68f40c47b2971", "d6a3c71de1b945ea11211b03746c1fe1",
    )),
    "retinamnist": Published((1080, 120, 400), (
        "bd4c0672f1bba3e3a89f0e4e876791e4", "afda852cc34dcda56f86ad2b2457dbcc",
        "e48e916a24454daf90583d4e6efb1a18", "eae7e3b6f3fcbda4ae613ebdcbe35348",
    )),
    "tissuemnist": Published((165466, 23640, 47280), (
        "ebe78ee8b05294063de985d821c1c34b", "123ece2eba09d0aa5d698fda57103344",
        "61b955355d7425a89687b06cca3ce0c2", "b077128c4a949f0a4eb01517f9037b9c",
    )),
}
# fmt: on
_3D = "it holds volumes, and ctkit reads the 2-D sets"
#: Why other sets of MedMNIST are of no use here, by their names.
UNFIT = {
    "chestmnist": "it has several labels an image, and tasks of ctkit have one",
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


@dataclass(frozen=True)
class FileOrder:
    """The file of a set to be fetched into ``folder``."""

    name: str
    size: int
    folder: Path
    endpoint: str

    @property
    def path(self) -> Path:
        """Where the file will lie."""
        return self.folder / file_name(self.name, self.size)

    @cached_property
    def _transfer(self) -> Transfer:
        return Transfer(f"{self.endpoint.rstrip('/')}/{self.path.name}?download=1", self.path)

    @cached_property
    def _whole(self) -> bool:
        return self.path.is_file() and md5(self.path) == FILES[self.name].md5(self.size)

    @cached_property
    def missing(self) -> int:
        """Bytes that are not in the folder yet."""
        return 0 if self._whole else self._transfer.missing

    @property
    def summary(self) -> str:
        """What it is and how large."""
        held = self.path.stat().st_size if self._whole else self._transfer.size
        images = sum(FILES[self.name].images)
        return f"{self.name}: {images} images of {self.size} pixels, {quantities.size(held)}"

    @property
    def terms(self) -> tuple[str, ...]:
        """Licence and citation."""
        return f"licence: {FILES[self.name].licence}", f"cite: {CITATION}"

    def fetch(self, console: Console | None = None) -> str:
        """Fetch the file and compare its MD5 with the published one.

        Raises ``DataError`` where the server cannot be reached or sends another file, of which nothing stays.
        """
        if not self._whole:
            self._transfer.fetch(self._is_published, console)
        use = f'use = "{self.name}"' if self.name == "organsmnist" else f'use = "medmnist", name = "{self.name}"'
        size = "" if self.size == 28 else f", size = {self.size}"
        return f"{self.path} is whole; in a pipeline file: {use}, root = ...{size}"

    def _is_published(self, part: Path) -> None:
        listed, found = FILES[self.name].md5(self.size), md5(part)
        if found != listed:
            raise DataError(f"the server sent another file than the published one: its MD5 is {found}, not {listed}")


def order(name: str, size: int, folder: Path, endpoint: str = ENDPOINT) -> FileOrder:
    """Say which file is to be fetched; nothing is asked of the server yet."""
    return FileOrder(name, size, folder, endpoint)
