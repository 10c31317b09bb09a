"""Base of tasks whose images are files: leaves out what cannot be decoded, and decodes the rest."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ctkit.contracts import Params, SourceFile, Split, Task
from ctkit.errors import DataError

P = TypeVar("P", bound=Params)

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class LabelledFile:
    """One image file with what is known of it."""

    path: Path
    label: int
    patient: str | None = None


class ImageFiles(Task[P]):
    """A task that lists image files; the root is a parameter of that name.

    A file that is missing or cannot be decoded is left out of its split with a warning, and ``notes`` counts them.
    """

    @abstractmethod
    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """Files of each split, in a fixed order, by looking at folders and tables only."""

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
        for name, files in () if found else self.listed().items():
            if not any(file.path.is_file() for file in files):
                yield f"not one of the {len(files)} images of {name} is in {self.root}; unpack them there"
            elif name == "train" and len({file.label for file in files}) < 2:
                yield f"the images of train in {self.root} are all of one class; a classifier needs two or more"

    def files(self) -> Iterator[SourceFile]:
        """Every table and every listed image."""
        listed = [file.path for files in self.listed().values() for file in files]
        for path in (*self.tables(), *listed):
            if path.is_file():
                yield source_file(path, self._name(path))

    def splits(self) -> Mapping[str, Split]:
        """The files that can be decoded."""
        return {name: self._split(files) for name, files in self._readable.items()}

    def image(self, split: str, number: int) -> NDArray[np.uint8]:
        """Decode one image; an alpha channel is dropped."""
        return decoded(self._readable[split][number].path)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        listed = self.listed()
        left_out = {name: len(listed[name]) - len(files) for name, files in self._readable.items()}
        return tuple(
            f"{count} missing or unreadable images left out of {name}" for name, count in left_out.items() if count
        )

    @cached_property
    def _readable(self) -> Mapping[str, tuple[LabelledFile, ...]]:
        readable = {name: _decodable(files) for name, files in self.listed().items()}
        empty = [name for name, files in readable.items() if not files]
        if empty:
            raise DataError(f"no image of {', '.join(empty)} below {self.root} can be read")
        return readable

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


def read_table(path: Path) -> str:
    """Read a table of labels. Raises ``DataError`` where that cannot be done."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"cannot read the table {path}: {reason}") from error


def image_paths(folder: Path) -> list[Path]:
    """Image files anywhere below ``folder`` by their suffix, in sorted order; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
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
    return f"it holds {', '.join(entries[:6])}{more}"


def decoded(path: Path) -> NDArray[np.uint8]:
    """Decode a file as grey (height, width) or colour (height, width, 3), whatever its suffix says.

    Raises ``DataError`` where the file is damaged or no 8- or 16-bit image; 16-bit grey keeps its upper 8 bits.
    """
    try:
        with Image.open(path) as image:
            return _eight_bit(image)
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        raise DataError(f"cannot decode the image {path}: {error}") from error


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise DataError(f"pixels of mode {image.mode} have no fixed scale; save them with 8 or 16 bits")
    if image.mode in ("L", "1", "LA"):
        return np.asarray(image.convert("L"))
    with_alpha = image.convert("RGBA") if image.mode == "P" else image  # a palette may hold transparency
    return np.asarray(with_alpha.convert("RGB"))


def _decodable(files: Sequence[LabelledFile]) -> tuple[LabelledFile, ...]:
    with ThreadPoolExecutor() as pool:
        readable = list(pool.map(_can_be_decoded, (file.path for file in files)))
    if not all(readable):
        log.warning(
            "%d of %d images are missing or cannot be decoded, and are left out", readable.count(False), len(files)
        )
    return tuple(file for file, good in zip(files, readable, strict=True) if good)


def _can_be_decoded(path: Path) -> bool:
    try:
        decoded(path)
    except DataError as error:
        log.debug("%s", error)
        return False
    return True
