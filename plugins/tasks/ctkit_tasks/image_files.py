"""Base of tasks whose images are files: leaves out what cannot be decoded, and decodes the rest."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Params, SourceFile, Split, Task
from ctkit.errors import DataError
from ctkit_formats.pictures import AT_ONCE, SUFFIXES, Look, Scale, decoded, depths, few_levels, look_at, scales

P = TypeVar("P", bound=Params)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledFile:
    """One image file with what is known of it."""

    path: Path
    label: int
    patient: str | None = None


class ImageFiles(Task[P]):
    """A task that lists image files; the root is a parameter of that name.

    A file that is missing or cannot be decoded is left out of its split with a warning, and ``notes`` counts them.
    Deep images are shown by the depth that is in use in the whole set.
    """

    version = 2

    @abstractmethod
    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """Files of each split, in a fixed order, by looking at folders and tables only."""

    def parted(self, readable: Mapping[str, tuple[LabelledFile, ...]]) -> Mapping[str, tuple[LabelledFile, ...]]:
        """Splits of the listed files that can be decoded: as listed, unless a task draws them."""
        return readable

    def tables(self) -> Sequence[Path]:
        """Files besides the images that the splits or labels come from."""
        return ()

    def lacking(self) -> Iterator[str]:
        """Say what is missing of the layout, by looking at folders only."""
        return iter(())

    def check(self, device: str | None) -> Iterable[str]:
        """Say what is missing of the layout, or of a split: all its images, or all but one class to learn from."""
        found = list(self.lacking())
        yield from found
        listed = {} if found else self.listed()
        counts = Counter(path for files in listed.values() for path in {file.path for file in files})
        if doubled := sum(count > 1 for count in counts.values()):
            yield f"{doubled} images of {self.root} are listed in more than one of {', '.join(listed)}"
        for name, files in listed.items():
            if not any(file.path.is_file() for file in files):
                yield f"none of the {len(files)} images of {name} is in {self.root}; unpack them there"
            elif name not in ("val", "test") and len({file.label for file in files}) < 2:
                yield f"the images of {name} in {self.root} are all of one class; a classifier needs two or more"

    def files(self) -> Iterator[SourceFile]:
        """Every table and every listed image."""
        listed = (file.path for files in self.listed().values() for file in files)
        for path in dict.fromkeys((*self.tables(), *listed)):
            if path.is_file():
                yield source_file(path, self._name(path))

    def splits(self) -> Mapping[str, Split]:
        """The files that can be decoded."""
        return {name: self._split(files) for name, files in self._readable.items()}

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """Decode one image; what is deeper than 8 bits is shown by the depth of the set."""
        return self.shown(self._readable[split][number])

    def shown(self, file: LabelledFile) -> NDArray[np.uint8]:
        """Decode a listed image, grey (height, width) or colour (height, width, 3)."""
        values = decoded(file.path)
        return self._scales[values.dtype.str].shown(values)

    @property
    def depths(self) -> str:
        """How deep images are shown, "" where all have 8 bits."""
        return depths(self._looks)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and what speaks against the images."""
        found = [few_levels(self._looks)]
        for name, files in self.listed().items():
            if left_out := len(set(files) - self._decodable[name].keys()):
                found.append(f"{left_out} missing or unreadable images skipped in {name}")
            if doubled := len(files) - len(set(files)):
                found.append(f"{doubled} images are listed again in {name}; each counts once")
            if pages := sum(look.pages > 1 for look in self._decodable[name].values()):
                found.append(f"{pages} files of {name} hold several pages, of which the first is used")
        return tuple(filter(None, found))

    @cached_property
    def _decodable(self) -> Mapping[str, Mapping[LabelledFile, Look]]:
        """The listed files that can be decoded, each once."""
        found = {name: _looked_at(dict.fromkeys(files)) for name, files in self.listed().items()}
        if empty := [name for name, looks in found.items() if not looks]:
            raise DataError(f"no image of {', '.join(empty)} below {self.root} can be read")
        return found

    @property
    def _looks(self) -> Sequence[Look]:
        return [look for looks in self._decodable.values() for look in looks.values()]

    @cached_property
    def _scales(self) -> Mapping[str, Scale]:
        return scales(self._looks)

    @cached_property
    def _readable(self) -> Mapping[str, tuple[LabelledFile, ...]]:
        return self.parted({name: tuple(files) for name, files in self._decodable.items()})

    def _split(self, files: Sequence[LabelledFile]) -> Split:
        patients = tuple(file.patient for file in files if file.patient is not None)
        return Split(
            names=tuple(self._name(file.path) for file in files),
            labels=np.array([file.label for file in files], np.int64),
            patients=patients if len(patients) == len(files) else None,
        )

    def _name(self, path: Path) -> str:
        assert self.root is not None
        return path.relative_to(self.root).as_posix()


def source_file(path: Path, name: str) -> SourceFile:
    """Describe a file that a result depends on."""
    status = path.stat()
    return SourceFile(name, status.st_size, status.st_mtime_ns)


def is_image(path: Path) -> bool:
    """Whether a path is that of an image file, by its suffix."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def image_paths(folder: Path) -> list[Path]:
    """Image files anywhere below ``folder`` by their suffix, in sorted order; hidden ones are left out."""
    found = filter(is_image, folder.rglob("*"))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, sorted; hidden ones are left out. Empty where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def found_instead(folder: Path) -> str:
    """Say what is in ``folder``, for the message of a wrong layout."""
    entries = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir()) if folder.is_dir() else []
    if not entries:
        return "it is empty" if folder.is_dir() else "there is no such folder"
    more = f" and {len(entries) - 6} more" if len(entries) > 6 else ""
    return f"it contains {', '.join(entries[:6])}{more}"


def _looked_at(files: Iterable[LabelledFile]) -> dict[LabelledFile, Look]:
    """What is known of the files that can be decoded, in their order."""
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(AT_ONCE) as pool:
        looks = {file: pool.submit(_look_at, file.path) for file in files}
        found = {file: look for file, future in looks.items() if (look := future.result())}
    if lost := len(looks) - len(found):
        log.warning("%d of %d images are missing or cannot be decoded, and are skipped", lost, len(looks))
    return found


def _look_at(path: Path) -> Look | None:
    try:
        return look_at(path)
    except DataError as error:
        log.debug("%s: %s", path, error)
        return None
