"""What a scan costs in memory, and that it accounts for every file."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.console.output import Console
from ctkit.errors import CtkitError, StorageError
from ctkit.files import read_csv
from ctkit.stages import left_out
from ctkit.stages import scan as scanning

MADE_UP = '''\
from pydantic import Field
from ctkit.contracts import SourceFile
from ctkit.hookspecs import Spec, hookimpl
from ctkit_datasets import packed_groups
from ctkit_datasets.dicom import SeriesDataset
from ctkit_datasets.filters import SeriesParams

packed_groups.LOOSE = 200  # so that some thousand slices behave as some hundred thousand
SERIES = 100  # slices

class MadeUpParams(SeriesParams):
    slices: int = Field(json_schema_extra={"address": False})
    forgotten: int = 0

class MadeUp(SeriesDataset[MadeUpParams]):
    """Headers of DICOM files that are not there."""

    def files(self):
        for number in range(self.params.slices):
            series, slice_ = divmod(number, SERIES)
            folder = f"patient-{series}/{'1.3.6.1.4.1.14519.5.2.1.' * 3}{series}"
            yield SourceFile(f"{folder}/{slice_:04}.dcm", 526_000, 10**18 + number**3)

    def inspect(self, file):
        series, slice_ = int(file.path.split("/")[0].removeprefix("patient-")), int(file.path[-8:-4])
        return {
            "series": {
                "patient": f"p{series}", "study": "", "frame_of_reference": "", "series": f"1.2.{series}", "label": "",
                "event": "", "modality": "CT", "sop_class": "", "image_type": ["ORIGINAL"], "body_part": "",
            },
            "storage": {
                "syntax": "1.2.840.10008.1.2.1", "order": "<", "rows": 512, "columns": 512, "frames": 1, "samples": 1,
                "photometric": "MONOCHROME2", "bits": 16, "stored": 16, "high": 15, "signed": True,
            },
            "offset": 1700,
            "slices": [{
                "position": [-166.0, -171.699997, 2.5 * slice_], "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
                "spacing": [0.7, 0.7], "thickness": 2.5, "notes": [],
                "marks": {
                    "acquisition": 1.0, "kernel": "B30f", "voltage": 120.0, "number": float(slice_),
                    "acquired": 36_000.5 + series + slice_ / 7, "content": 40_000.25 + slice_,
                },
                "slope": 1.0, "intercept": -1024.0, "rescale_type": "HU", "ends": None, "padding": None,
            }],
        }

    def arrange(self, headers):
        """As its base, which never hears of the first files."""
        wanted = iter(headers)
        for _ in range(self.params.forgotten):
            next(wanted)
        return super().arrange(wanted)

@hookimpl
def ctkit_register_datasets():
    return [Spec("made-up", "headers without files", "made_up:MadeUp")]
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The data set that makes its headers up."""
    info = tmp_path / "site" / "made_up-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nmade-up = made_up\n")
    (tmp_path / "site" / "made_up.py").write_text(MADE_UP)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugins.load.cache_clear()
    yield
    plugins.load.cache_clear()


def scan(folder: Path, **dataset: Any) -> Path:
    """Scan, and return the run's folder."""
    document = {
        "run": {"name": "x", "out": str(folder / "runs" / "x")},
        "compute": {"workers": 1, "device": "cpu"},
        "dataset": {"use": "made-up", "root": str(folder), **dataset},
        "reduce": [{"use": "all"}],
    }
    registry = plugins.load()
    return runner.run(pipeline_file.resolve(document, registry, folder), registry, Console(quiet=True), "scan").path


def peak(folder: Path, **dataset: Any) -> int:
    """Return the most memory that a scan takes in this process, bytes."""
    gc.collect()  # what other tests have left is nothing of the scan's
    tracemalloc.start()
    scan(folder, **dataset)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.usefixtures("site")
def test_a_scan_takes_less_than_150_bytes_a_slice_whatever_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_out, "HELD", 200)
    few, many = 1000, 4000
    scan(tmp_path, slices=many, min_slices=2)  # reads the headers, which is another process's work
    for choice in ({}, {"max_volumes": 1}, {"same_scan": "largest"}):
        for _ in range(2):  # what is taken once in the life of a process is no slice's
            taken = peak(tmp_path, slices=many, **choice) - peak(tmp_path, slices=few, **choice)
            if taken < 150 * (many - few):
                break
        assert taken < 150 * (many - few), f"{taken / (many - few):.0f} bytes a slice with {choice}"


@pytest.mark.usefixtures("site")
def test_files_that_a_plugin_says_nothing_of_are_skipped(tmp_path: Path) -> None:
    scan(tmp_path, slices=300, forgotten=101)
    (table,) = (tmp_path / "runs" / ".cache" / "scan").glob("*/*/skipped.csv")
    rows = read_csv(table)
    assert [row["source"][-9:] for row in rows] == [f"/{number:04}.dcm" for number in range(100)] + ["/0000.dcm"]
    assert {row["reason"] for row in rows} == {"the data set plugin assigned it to no volume and did not skip it"}


@pytest.mark.usefixtures("site")
def test_headers_are_arranged_while_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    keep = scanning._keep
    monkeypatch.setattr(scanning, "_keep", lambda *args: events.append("read") or keep(*args))
    plugin = pipeline_file.pipeline.load_target("made_up:MadeUp")
    arrange = plugin.arrange

    def watched(self: Any, headers: Any) -> Any:
        return arrange(self, (events.append("arranged") or header for header in headers))

    monkeypatch.setattr(plugin, "arrange", watched)
    scan(tmp_path, slices=2000)
    assert events.count("read") == 20
    assert events.count("arranged") == 2000
    assert "arranged" in events[: len(events) - events[::-1].index("read")]  # before the last one was read


@pytest.mark.usefixtures("site")
def test_an_error_that_a_plugin_passes_over_ends_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> bool:
        raise StorageError("the disk is full")

    def careless(self: Any, headers: Any) -> Any:
        with suppress(Exception):
            list(headers)
        return iter(())

    monkeypatch.setattr(scanning, "_keep", full)
    monkeypatch.setattr(pipeline_file.pipeline.load_target("made_up:MadeUp"), "arrange", careless)
    with pytest.raises(StorageError, match="the disk is full"):
        scan(tmp_path, slices=300)


STRANGER = """\
import sys
import numpy as np
from ctkit.contracts import Dataset, NoParams, Pixels, Skipped, SourceFile, Volume

class Mine(Dataset[NoParams]):
    def files(self):
        yield from (SourceFile(name, 1, 1) for name in "abc")
        FILES

    def inspect(self, file):
        INSPECT
        return {"ok": True}

    def arrange(self, headers):
        for file, facts in headers:
            yield Volume(file.path, "p", (file,), ((0, 0),), 8, 8)
            ARRANGE

    def read(self, volume, wanted=None):
        return Pixels(np.zeros((1, 8, 8), np.int16), np.arange(1), "HU")
"""


def strange(folder: Path, files: str = "", inspect: str = "", arrange: str = "") -> dict[str, str]:
    """Scan the three files of a stranger's data set; return what is skipped, and why."""
    text = STRANGER.replace("FILES", files).replace("INSPECT", inspect).replace("ARRANGE", arrange)
    (folder / "mine.py").write_text(text)
    document = {"run": {"name": "a"}, "compute": {"workers": 1}, "dataset": {"use": "mine.py:Mine"}}
    registry = plugins.load()
    pipeline = pipeline_file.resolve(document | {"reduce": [{"use": "all"}]}, registry, folder)
    with chdir(folder):
        runner.run(pipeline, registry, Console(quiet=True), "scan")
    (table,) = (folder / "runs" / ".cache" / "scan").glob("*/*/skipped.csv")
    return {row["source"]: row["reason"] for row in read_csv(table)}


def test_what_inspect_does_to_one_file_costs_that_file(tmp_path: Path) -> None:
    inspect = "return {'a': lambda: {}, 'b': sys.exit, 'c': lambda: Skipped('c', 3)}[file.path]()"
    assert strange(tmp_path, inspect=inspect) == {
        "b": "its header cannot be read (SystemExit)",
        "c": "the data set plugin must return facts or Skipped for it, but returned Skipped",
    }


def test_what_arrange_does_not_ask_for_is_skipped(tmp_path: Path) -> None:
    reason = "the data set plugin assigned it to no volume and did not skip it"
    assert strange(tmp_path, arrange="return") == {"b": reason, "c": reason}


@pytest.mark.parametrize(
    ("strangely", "said"),
    [
        ({"files": "yield 'd'"}, "files must give SourceFile objects, but it is of type str; build them"),
        ({"inspect": "return {'a': np.arange(3)}"}, "inspect must return facts that JSON supports, but TypeError was"),
        (
            {"inspect": "raise GeneratorExit"},
            "no CT volume among 3 files: 3 x its header cannot be read (GeneratorExit)",
        ),
        ({"arrange": "yield 3"}, "arrange must give Volume and Skipped objects, but it is of type int; build them"),
        ({"arrange": "yield Volume('k', 'p', (), ((0, np.int64(0)),), 8, 8)"}, "two numbers of type int, but slices"),
        ({"arrange": "yield Volume('k', 'p', (), ((0, 0),), 8.0, 8)"}, "rows and columns must be of type int, but"),
        ({"arrange": "yield Volume('k', 'p', (), ((0, 0),), 8, 8, (1, 'x', None))"}, "spacing must be three lengths"),
        ({"arrange": "yield Volume('k', 'p', (), ((0, 0),), 8, 8, notes='tilt')"}, "notes must be a tuple of strings"),
    ],
    ids=str,
)
def test_a_data_set_that_gives_what_it_must_not_is_named(tmp_path: Path, strangely: dict[str, str], said: str) -> None:
    with pytest.raises(CtkitError) as caught:
        strange(tmp_path, **strangely)
    assert str(caught.value).startswith("data set 'Mine': ")
    assert said in str(caught.value)
