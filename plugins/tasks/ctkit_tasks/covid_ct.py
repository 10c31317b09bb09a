"""Task ``covid-ct``: the COVID CT Grand Challenge (Zhao et al. 2020, arXiv 2003.13865) with its official splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError
from ctkit_tasks.image_files import ImageFiles, LabelledFile, found_instead, read_table

_SPLITS = ("train", "val", "test")


class CovidCtParams(Params):
    """Where the set lies."""

    root: InputPath = Field(
        description="folder with Data-split/ and the unpacked CT_COVID/ and CT_NonCOVID/, here or in Images-processed/"
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
            if not self._folder(name).is_dir():
                yield (
                    f"expects a folder CT_{name} in {root} or its Images-processed (unpack CT_{name}.zip), but "
                    f"{found_instead(root)}"
                )
        if missing := [path.relative_to(root).as_posix() for path in self.tables() if not path.is_file()]:
            yield f"expects {' and '.join(missing)} in {root}, but {found_instead(root)}"

    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """The files that the official lists name."""
        for fault in self.lacking():
            raise RequestError(f"task covid-ct {fault}")
        return {
            split: [
                LabelledFile(self._folder(name) / line, label)
                for label, name in enumerate(self.classes)
                for line in _lines(self._list(split, name))
            ]
            for split in _SPLITS
        }

    def tables(self) -> Sequence[Path]:
        """The six lists."""
        return [self._list(split, name) for split in _SPLITS for name in self.classes]

    def _list(self, split: str, name: str) -> Path:
        return self.params.root / "Data-split" / name / f"{split}CT_{name}.txt"

    def _folder(self, name: str) -> Path:
        here = self.params.root / f"CT_{name}"
        return here if here.is_dir() else self.params.root / "Images-processed" / f"CT_{name}"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_table(path).splitlines() if line.strip()]
