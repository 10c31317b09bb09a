"""Files that kill or hang whoever reads them, and files that change on the way: each costs itself, never the run."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctkit.files import read_csv
from ctkit_datasets.phantom import Phantom, PhantomParams
from phantom_files import write_dicom

#: A data set with the worst of files: a native decoder that dies, one that hangs, one that dies once.
HOSTILE = '''\
import os, signal, time
from pathlib import Path
from ctkit.hookspecs import Spec, hookimpl
from ctkit_datasets.dicom import Dicom

class Hostile(Dicom):
    """DICOM that bites."""

    def inspect(self, file):
        if "kills-header" in file.path:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().inspect(file)

    def read(self, volume, wanted=None):
        numbers = range(len(volume)) if wanted is None else wanted.tolist()
        for number in numbers:
            source = volume.source(number)
            if "kills-pixels" in source:
                os.kill(os.getpid(), signal.SIGSEGV)
            if "hangs" in source:
                time.sleep(600)
            once = Path(os.environ["ONCE"])
            if "kills-once" in source and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if "vanishes" in source:
                (self.params.root / source).unlink(missing_ok=True)
        return super().read(volume, wanted)

@hookimpl
def ctkit_register_datasets():
    return [Spec("hostile", "DICOM that bites", "hostile:Hostile")]
'''
PIPELINE = """\
[run]
name = "{name}"
[compute]
backend = "{backend}"
workers = 2
time_limit = 3
[dataset]
use = "{dataset}"
root = "scans"
[[reduce]]
use = "hash"
threshold = 3
[report]
images = false
"""
HOSTILE_FILES = ("kills-header", "kills-pixels", "hangs", "kills-once", "vanishes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hostile files that no run has read."""
    return with_hostile_files(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def bitten(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a run by each backend, at once: they wait more than they work."""
    folders = {name: with_hostile_files(tmp_path_factory.mktemp(f"hostile-{name}")) for name in ("processes", "dask")}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: start(folders[name], name, "hostile", name), folders))
    return folders


def with_hostile_files(folder: Path) -> Path:
    """Write six series, in five of which one file is hostile, and the plugin that makes it so."""
    files = write_dicom(folder / "scans", Phantom(PhantomParams(patients=6, slices=8, matrix=32)))
    series = sorted({path.parent for path in files})
    for name, place in zip(HOSTILE_FILES, series, strict=False):
        victim = sorted(place.iterdir())[3]
        victim.rename(victim.with_name(f"{name}.dcm"))
    info = folder / "site" / "hostile-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "site" / "hostile.py").write_text(HOSTILE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nhostile = hostile\n")
    return folder


def start(folder: Path, name: str, dataset: str, backend: str = "processes") -> None:
    (folder / f"{name}.toml").write_text(PIPELINE.format(name=name, dataset=dataset, backend=backend))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")]),
        "ONCE": str(folder / f"{name}.once"),
        "CTKIT_CACHE": str(folder / "caches" / name),
    }
    command = [sys.executable, "-m", "ctkit", "run", f"{name}.toml", "--until", "select"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def selection(folder: Path, name: str) -> list[tuple[str, str, str, str]]:
    rows = read_csv(folder / "runs" / name / "arms" / "hash-3" / "selection.csv")
    return [(row["source"], row["index"], row["kept"], row["distance"]) for row in rows]


@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_a_hostile_file_costs_itself_and_nothing_else(bitten: dict[str, Path], backend: str) -> None:
    folder = bitten[backend]
    skipped = {Path(row["source"]).stem: row["reason"] for row in read_csv(folder / "runs" / backend / "skipped.csv")}
    assert set(skipped) == {"kills-header", "kills-pixels", "hangs", "vanishes"}
    assert "SIGKILL" in skipped["kills-header"]
    assert "SIGSEGV" in skipped["kills-pixels"]
    assert "3 s" in skipped["hangs"]
    sources = [source for source, *_ in selection(folder, backend)]
    assert len(sources) == len(set(sources)) == 6 * 8 - 4
    assert any("kills-once" in source for source in sources)


def test_both_backends_choose_alike(folder: Path) -> None:
    for name in ("processes", "dask"):
        start(folder, f"calm-{name}", "dicom", name)
    assert selection(folder, "calm-processes") == selection(folder, "calm-dask")
    assert len(selection(folder, "calm-dask")) == 48


def test_patients_added_later_cost_only_themselves(folder: Path) -> None:
    patients = sorted((folder / "scans" / "LIDC-IDRI").iterdir())
    aside = folder / "aside"
    aside.mkdir()
    newest = patients[-1].rename(aside / patients[-1].name)
    start(folder, "growing", "dicom")
    before = made(folder / "caches" / "growing")
    newest.rename(patients[-1])
    start(folder, "growing", "dicom")
    after = made(folder / "caches" / "growing")
    assert before.items() <= after.items()
    assert sorted(path.parent.parent.name for path in after.keys() - before.keys()) == [
        "evidence",
        "headers",
        "reading",
    ]
    assert len(selection(folder, "growing")) == 48


def made(cache: Path) -> dict[Path, int]:
    """What headers and volumes have cost, with the number that the file system gave it when it was made."""
    kinds = ("headers", "reading", "evidence")
    return {path: path.stat().st_ino for kind in kinds for path in (cache / kind).rglob("*.*")}
