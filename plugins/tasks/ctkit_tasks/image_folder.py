"""Task ``image-folder``: any tree of ``root/split/class/`` folders with image files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import Field, field_validator

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError, nearest
from ctkit_tasks.image_files import ImageFiles, LabelledFile, found_instead, image_paths, subfolders


class ImageFolderParams(Params):
    """Where the images lie, and what their names tell."""

    root: InputPath = Field(description="folder with train/, test/ and optionally val/, each with one folder per class")
    positive: str | None = Field(None, description="the positive class of two; default: the second by name")
    patient: str | None = Field(
        None,
        description="regular expression that finds the patient in an image's path inside its class folder: its first "
        "group, or the whole match where it has none",
    )

    @field_validator("patient")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class ImageFolder(ImageFiles[ImageFolderParams]):
    """Images below ``root/train``, ``root/test`` and perhaps ``root/val``, in one folder for each class.

    Without ``val`` the protocols hold out training patients (images where patients are unknown) for validation.
    """

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the class folders of all splits, sorted."""
        for fault in self.lacking():
            raise RequestError(f"task image-folder {fault}")
        return tuple(sorted({name for split in self._split_names for name in subfolders(self.params.root / split)}))

    @property
    def positive_class(self) -> str | None:
        """The named class, or the second of two."""
        classes, named = self.classes, self.params.positive
        if named is None:
            return classes[1] if len(classes) == 2 else None
        if len(classes) != 2:
            raise RequestError(f"task image-folder: positive is for two classes; {len(classes)} were found")
        if named not in classes:
            raise RequestError(f"task image-folder: no class is called {named!r}; {nearest(named, classes)}")
        return named

    def lacking(self) -> Iterator[str]:
        """Name the splits that are missing or have no class."""
        root = self.params.root
        for split in ("train", "test"):
            if split not in subfolders(root):
                yield (
                    f"expects train/<class>/ and test/<class>/ (and val/<class>/, if any) with images in {root}, but "
                    f"{found_instead(root)}"
                )
                return
            if not subfolders(root / split):
                yield f"expects one folder per class with images in {root / split}, but {found_instead(root / split)}"

    def check(self, device: str | None) -> Iterable[str]:
        """Say what is missing, and where ``positive`` or ``patient`` do not fit."""
        found = list(super().check(device))
        yield from found
        if not found:
            _ = self.positive_class  # raises where it does not fit

    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """Every image file below the class folders."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return {
            split: [
                LabelledFile(path, numbers[name], self._patient(path.relative_to(self.params.root / split / name)))
                for name in subfolders(self.params.root / split)
                for path in image_paths(self.params.root / split / name)
            ]
            for split in self._split_names
        }

    @property
    def _split_names(self) -> tuple[str, ...]:
        present = subfolders(self.params.root)
        return tuple(name for name in ("train", "val", "test") if name in present)

    def _patient(self, path: Path) -> str | None:
        if self.params.patient is None:
            return None
        match = re.search(self.params.patient, path.as_posix())
        found = match and match.group(min(match.re.groups, 1))
        if not found:  # of alternatives the first group may take no part
            raise RequestError(
                f"task image-folder: patient = {self.params.patient!r} finds none in {path.as_posix()!r}"
            )
        return found
