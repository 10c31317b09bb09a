"""Tasks ``organsmnist`` and ``medmnist``: the 2-D sets of MedMNIST v2.

Yang et al. 2023, Scientific Data 10:41, doi:10.1038/s41597-022-01721-8.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ctkit.contracts import InputPath, Params, SourceFile, Split, Task
from ctkit.errors import CtkitError, DataError, RequestError, nearest
from ctkit_downloads.medmnist import SETS, SIZES, UNFIT, Size, file_name, md5
from ctkit_tasks.image_files import found_instead, source_file

_log = logging.getLogger(__name__)
_md5 = cache(md5)  # the larger files have gigabytes


class MedMnistParams(Params):
    """Which set, at which size, and where it lies."""

    name: str = Field(description="the set's name at MedMNIST, such as pneumoniamnist")
    root: InputPath | None = Field(
        None, description="the .npz file or its folder; without it ~/.medmnist, where the package medmnist keeps files"
    )
    size: Size = Field(28, description="side of the images in the file, in pixels")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in SETS:
            why = UNFIT.get(name) or nearest(name, SETS)
            raise ValueError(f"no 2-D set of MedMNIST with one label per image is called {name!r}; {why}")
        return name


class OrganSMnistParams(MedMnistParams):
    """At which size, and where it lies."""

    name: Literal["organsmnist"] = Field("organsmnist", description="the set's name at MedMNIST")


class MedMnist(Task[MedMnistParams]):
    """Any of the sets of ``ctkit_downloads.medmnist``, with its own split.

    It lies in ``<name>.npz`` (28 pixels) or ``<name>_<size>.npz``.
    """

    mean_std = (0.5, 0.5)  # the paper's

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the set's classes."""
        return SETS[self.params.name].classes

    @property
    def positive_class(self) -> str | None:
        """The disease, in a set of two classes."""
        return SETS[self.params.name].positive

    @property
    def root(self) -> Path:
        """Folder of the file."""
        return self._place.parent

    def check(self, device: str | None) -> Iterable[str]:
        """Say that the file is missing, or is another one. Of the images it reads type and shape alone."""
        if self._place.is_file():
            with _whole(self._place):
                self._all_checked(_headers(self._place))
        else:
            yield self._lacking

    def files(self) -> Iterator[SourceFile]:
        """The one file."""
        yield source_file(self._file, self._file.name)

    def splits(self) -> Mapping[str, Split]:
        """The set's own train, val and test."""
        return {
            split: Split(tuple(f"{split}-{number:06d}" for number in range(len(labels))), labels)
            for split, (_, labels) in self._arrays.items()
        }

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """One image as the file has it."""
        image: NDArray[np.uint8] = self._arrays[split][0][number]
        return image

    @property
    def _place(self) -> Path:
        """Where the file is or should be."""
        name, root = file_name(self.params.name, self.params.size), self.params.root or Path.home() / ".medmnist"
        return root if root.is_file() else root / name

    @property
    def _lacking(self) -> str:
        place, params = self._place, self.params
        size = "" if params.size == SIZES[0] else f" --size {params.size}"
        return (
            f"expects {place.name} in {place.parent}, but {found_instead(place.parent)}; "
            f"ctkit get {params.name}{size} --out DIR downloads it"
        )

    @cached_property
    def _file(self) -> Path:
        if not self._place.is_file():
            raise RequestError(f"task {self.params.name} {self._lacking}")
        return self._place

    @cached_property
    def _arrays(self) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        with _opened(self._file) as content:
            found = self._all_checked(content)
        if difference := self._unofficial({split: len(labels) for split, (_, labels) in found.items()}):
            _log.warning("task %s: not the official file of MedMNIST: %s", self.params.name, difference)
        return found

    def _unofficial(self, counts: Mapping[str, int]) -> str:
        """Return what differs from the published file, "" where nothing does."""
        published = SETS[self.params.name]
        if (found := tuple(counts.values())) != published.images:
            return f"train, val and test have {found} images, where {published.images} are published"
        listed = published.md5[SIZES.index(self.params.size)]
        return "" if (sum_ := _md5(self._file)) == listed else f"its MD5 is {sum_}, where {listed} is published"

    def _all_checked(self, content: Mapping[str, Any]) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        return {split: self._checked(content, split) for split in ("train", "val", "test")}

    def _checked(self, content: Mapping[str, Any], split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images (n, size, size) or (n, size, size, 3) and labels (n,) of a split."""
        images, labels = content[f"{split}_images"], content[f"{split}_labels"]
        size, classes = self.params.size, len(self.classes)
        if labels.dtype.kind not in "iuf":
            raise DataError(f"{self._place} is not a complete MedMNIST file: the labels of {split} are {labels.dtype}")
        if images.shape[1:] not in ((size, size), (size, size, 3)) or images.dtype != np.uint8:
            raise RequestError(
                f"task {self.params.name} expects 8-bit images of {size} pixels in {self._place}, but {split} has "
                f"{images.dtype} of shape {images.shape}; set size to that of the file"
            )
        if labels.shape != (len(images), 1) or not np.isin(labels, range(classes)).all():
            raise RequestError(
                f"task {self.params.name} expects one label of {classes} classes for each image in {self._place}, but "
                f"{split} has labels of shape {labels.shape} from {labels.min()} to {labels.max()}: is it another set?"
            )
        return images, labels[:, 0].astype(np.int64)


class OrganSMnist(MedMnist):
    """Organs in sagittal CT patches, 11 classes."""

    params_type = OrganSMnistParams


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open a set's file. Raises ``DataError`` where it is not whole."""
    with _whole(path), path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        yield content


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except CtkitError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on damaged files, also MemoryError
        raise DataError(f"{path} is not a complete MedMNIST file: {error or type(error).__name__}") from error


def _headers(path: Path) -> dict[str, NDArray[Any]]:
    """The labels of a set, and arrays of the type and shape of its images, which are not read."""
    with _opened(path) as content, ZipFile(path) as file:
        found = {name: content[name] for name in content if name.endswith("labels")}
        for name in (name for name in content if name.endswith("images")):
            with file.open(f"{name}.npy") as member:
                major, _ = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            found[name] = np.broadcast_to(np.zeros((), dtype), shape)
    return found
