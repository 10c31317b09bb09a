"""Task ``covid-ct``: the COVID CT Grand Challenge (Zhao et al. 2020, arXiv 2003.13865) with its official splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from pydantic import Field

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError
from ctkit_formats.tables import text_of
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
        wanted = [(split, name) for split in _SPLITS for name in self.classes]
        if missing := [
            f"Data-split/{name}/{split}CT_{name}.txt" for split, name in wanted if not self._list(split, name)
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
                for line in map(str.strip, text_of(table).splitlines())
                if line
            ]
            for split in _SPLITS
        }

    def tables(self) -> Sequence[Path]:
        """The six lists."""
        lists = (self._list(split, name) for split in _SPLITS for name in self.classes)
        return [path for path in lists if path]

    def _list(self, split: str, name: str) -> Path | None:
        """The list of a split and a class, such as ``Data-split/COVID/trainCT_COVID.txt``."""
        return self._places.get(f"{split}ct{name}txt".lower()) or self._places.get(f"{split}{name}txt".lower())

    def _folder(self, name: str) -> Path | None:
        """The folder of a class, such as ``Images-processed/CT_COVID``."""
        return self._places.get(f"ct{name}".lower()) or self._places.get(name.lower())

    @cached_property
    def _places(self) -> Mapping[str, Path]:
        """Lists and folders by their names, in small letters without marks, as copies spell them in their own ways.

        A folder of images goes before one without, and then the nearest to the root.
        """
        root, found = self.params.root, dict[str, Path]()
        paths = [path for depth in range(_DEPTH) for path in sorted(root.glob("/".join(["*"] * (depth + 1))))]
        folders = [path for path in paths if path.is_dir()]
        whole = [path for path in folders if any(map(is_image, path.iterdir()))]
        named = [path for path in folders if path.name.lower().startswith("ct")]  # others hold the lists
        for path in (*whole, *named, *(path for path in paths if path.suffix.lower() == ".txt")):
            if not any(part.startswith((".", "__")) for part in path.relative_to(root).parts):  # as macOS adds
                found.setdefault(re.sub("[^a-z0-9]", "", path.name.lower()), path)
        return found
