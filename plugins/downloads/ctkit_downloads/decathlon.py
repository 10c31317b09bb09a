"""The CT sets of the Medical Segmentation Decathlon, as the archives that MONAI fetches.

Antonelli et al. 2022, Nature Communications 13:4128, doi:10.1038/s41467-022-30695-9. Address and MD5 are those of
``DecathlonDataset`` in ``monai.apps.datasets`` 1.6.1 (Apache-2.0).
"""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ctkit import quantities
from ctkit.errors import DataError, StorageError
from ctkit_downloads.medmnist import check_md5
from ctkit_downloads.transfer import Transfer

if TYPE_CHECKING:
    from ctkit import Console

ENDPOINT = "https://msd-for-monai.s3-us-west-2.amazonaws.com"


class Published(NamedTuple):
    """What is published of a set."""

    folder: str
    scans: int  #: with masks and without
    md5: str  #: of the archive


SETS = {
    "msd-liver": Published("Task03_Liver", 201, "a90ec6c4aa7f6a3d087205e23d4e6397"),
    "msd-lung": Published("Task06_Lung", 95, "8afd997733c7fc0432f71255ba4e52dc"),
    "msd-pancreas": Published("Task07_Pancreas", 420, "4f7080cfca169fa8066d17ce6eb061e4"),
    "msd-hepatic-vessel": Published("Task08_HepaticVessel", 443, "641d79e80ec66453921d997fbf12a29c"),
    "msd-spleen": Published("Task09_Spleen", 61, "410d4a301da4e5b2f6f86ec3ddba524e"),
    "msd-colon": Published("Task10_Colon", 190, "bad7a188931dc2f6acf72b08eb6202d0"),
}


@dataclass(frozen=True)
class ArchiveOrder:
    """The archive of a set to be fetched and unpacked into ``folder``; a folder of its name counts as whole."""

    name: str
    folder: Path
    endpoint: str

    @property
    def _published(self) -> Published:
        return SETS[self.name]

    @property
    def path(self) -> Path:
        """Where the set will lie."""
        return self.folder / self._published.folder

    @cached_property
    def _transfer(self) -> Transfer:
        archive = f"{self._published.folder}.tar"
        return Transfer(f"{self.endpoint.rstrip('/')}/{archive}", self.folder / archive)

    @property
    def missing(self) -> int:
        """Bytes that are not in the folder yet."""
        return 0 if self.path.is_dir() or self._transfer.path.is_file() else self._transfer.missing

    @property
    def summary(self) -> str:
        """What it is and how large."""
        size = "" if self.path.is_dir() else f", {quantities.size(self._transfer.size)}"
        return f"{self.name}: {self._published.scans} CT scans, most with masks{size}"

    @property
    def terms(self) -> tuple[str, ...]:
        """Licence and citation."""
        return (
            "licence: CC BY-SA 4.0",
            "cite: Antonelli et al. 2022, The Medical Segmentation Decathlon, doi:10.1038/s41467-022-30695-9",
        )

    def fetch(self, console: Console | None = None) -> str:
        """Fetch the archive, compare its MD5 with the published one, unpack it and remove it.

        Raises ``DataError`` where the server cannot be reached or sends another file, ``StorageError`` where the disk
        is full. What is unpacked is visible when it is whole.
        """
        archive = self._transfer.path
        if not self.path.is_dir():
            if archive.is_file():
                check_md5(archive, self._published.md5)
            else:
                self._transfer.fetch(lambda part: check_md5(part, self._published.md5), console)
            self._unpack(archive)
        archive.unlink(missing_ok=True)
        return f'{self.path} is whole; in a pipeline file: use = "decathlon", root = ... as data set and as task'

    def _unpack(self, archive: Path) -> None:
        part = self.folder / f"{self._published.folder}.unpacking"
        shutil.rmtree(part, ignore_errors=True)
        try:
            with tarfile.open(archive) as file:
                file.extractall(part, filter="data")
            (part / self._published.folder).replace(self.path)
        except (tarfile.TarError, EOFError, FileNotFoundError) as error:
            raise DataError(f"{archive} is no archive of {self._published.folder}: {error}") from error
        except OSError as error:
            raise StorageError(f"cannot unpack {archive}: {error.strerror}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
