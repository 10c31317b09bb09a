"""Task ``covid-ct``: the COVID CT Grand Challenge (Zhao et al. 2020, arXiv 2003.13865) with its official splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import Field

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError
from ctkit_formats.tables import lines_of
from ctkit_tasks.image_files import ImageFiles, LabelledFile, found_instead, is_image

_SPLITS = ("train", "val", "test")
_DEPTH = 4  # folders that are looked through below the root


class CovidCtParams(Params):
    """Where the set lies."""

    root: InputPath = Field(
        description="folder with the lists of Data-split/ and the unpacked CT_COVID/ and CT_NonCOVID/, at most four "
        "folders deep; hyphens, underscores and capitals do not matter"
    )


class CovidCt(ImageFiles[CovidCtParams]):
    """349 CT pictures with COVID-19 and 397 without, from publications.

    ``Data-split/<class>/<split>CT_<class>.txt`` names the files of a split, one a line. The set tells patients in a
    spreadsheet and for one class only, so images count for themselves.
    """

    classes = ("NonCOVID", "COVID")
    positive = "COVID"
    mean_std = (0.56, 0.29)  # the paper's

    def lacking(self) -> Iterator[str]:
        """Name the folders and lists that are missing."""
        root = self.params.root
        for name in self.classes:
            if self._folder(name) is None:
                yield (
                    f"expects a folder CT_{name} in {root} or its Images-processed (unpack CT_{name}.zip), but "
                    f"{found_instead(root)}"
                )
        if missing := [
            f"Data-split/{name}/{split}CT_{name}.txt"
            for split in _SPLITS
            for name in self.classes
            if self._list(split, name) is None
        ]:
            yield f"expects {' and '.join(missing)} in {root}, but {found_instead(root)}"

    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """The files that the official lists name."""
        for fault in self.lacking():
            raise RequestError(f"task covid-ct {fault}")
        return {
            split: [
                LabelledFile(folder / PurePosixPath(line).name, label)
                for label, name in enumerate(self.classes)
                if (table := self._list(split, name)) and (folder := self._folder(name))
                for _, line in lines_of(table)
            ]
            for split in _SPLITS
        }

    def tables(self) -> Sequence[Path]:
        """The six lists."""
        lists = (self._list(split, name) for split in _SPLITS for name in self.classes)
        return [path for path in lists if path]

    def _list(self, split: str, name: str) -> Path | None:
        """The list of a split and a class, such as ``Data-split/COVID/trainCT_COVID.txt``."""
        return self._place(f"{split}CT{name}txt", f"{split}{name}txt")

    def _folder(self, name: str) -> Path | None:
        """The folder of a class, such as ``Images-processed/CT_COVID``."""
        return self._place(f"CT{name}", name)

    def _place(self, *names: str) -> Path | None:
        return next((self._places[name.lower()] for name in names if name.lower() in self._places), None)

    @cached_property
    def _places(self) -> Mapping[str, Path]:
        """Lists and folders of images by their names, in small letters without marks; the nearest to the root.

        Archives are unpacked with a folder of their own or without, and copies spell names in their own way. A folder
        without images is taken where there is no other.
        """
        found: dict[str, Path] = {}
        empty: dict[str, Path] = {}
        for depth in range(1, _DEPTH + 1):
            for path in sorted(self.params.root.glob("/".join("*" * depth))):
                if any(part.startswith((".", "__")) for part in path.relative_to(self.params.root).parts):
                    continue  # what macOS adds
                name = re.sub("[^a-z0-9]", "", path.name.lower())
                if path.is_dir():
                    (found if any(map(is_image, path.iterdir())) else empty).setdefault(name, path)
                elif path.suffix.lower() == ".txt":
                    found.setdefault(name, path)
        return {name: path for name, path in empty.items() if name.startswith("ct")} | found  # others hold the lists
