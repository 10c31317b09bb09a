"""Task ``covid-ct``: the COVID CT Grand Challenge (Zhao et al. 2020, arXiv 2003.13865) with its official splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from ctkit.contracts import InputPath, Params
from ctkit.errors import RequestError
from ctkit_tasks.image_files import ImageFiles, LabelledFile, found_instead


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

    def listed(self) -> Mapping[str, Sequence[LabelledFile]]:
        """The files that the official lists name."""
        folders = [self._folder(name) for name in self.classes]
        return {
            split: [
                LabelledFile(folder / line, label)
                for label, (name, folder) in enumerate(zip(self.classes, folders, strict=True))
                for line in _lines(self._list(split, name))
            ]
            for split in ("train", "val", "test")
        }

    def tables(self) -> Sequence[Path]:
        """The six lists."""
        return [self._list(split, name) for split in ("train", "val", "test") for name in self.classes]

    def _list(self, split: str, name: str) -> Path:
        path = self.params.root / "Data-split" / name / f"{split}CT_{name}.txt"
        if not path.is_file():
            raise RequestError(
                f"task covid-ct expects Data-split/{name}/{split}CT_{name}.txt in {self.params.root}, but "
                f"{found_instead(self.params.root)}"
            )
        return path

    def _folder(self, name: str) -> Path:
        for parent in (self.params.root, self.params.root / "Images-processed"):
            if (parent / f"CT_{name}").is_dir():
                return parent / f"CT_{name}"
        raise RequestError(
            f"task covid-ct expects a folder CT_{name} in {self.params.root} or its Images-processed (unpack "
            f"CT_{name}.zip), but {found_instead(self.params.root)}"
        )


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
