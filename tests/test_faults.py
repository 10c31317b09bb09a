"""Faults of machine and disk that a run survives: little memory, reads that fail, a wrong clock, files that change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from ctkit.files import read_csv, read_json

PIPELINE = """\
[run]
name = "faults"
[compute]
device = "cpu"
workers = 1
[dataset]
use = "{dataset}"
root = "scans"
size = 32
[[reduce]]
use = "hash"
"""
RUN, CACHE = Path("runs/faults"), Path("runs/.cache")

#: Reading the file with the inode in EIO fails; the clock is CLOCK seconds behind.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int lost(int file) {
    const char *inode = getenv("EIO");
    struct stat found;
    return inode && !fstat(file, &found) && S_ISREG(found.st_mode) && found.st_ino == strtoull(inode, 0, 10);
}
ssize_t read(int file, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (lost(file)) { errno = EIO; return -1; }
    return real(file, to, size);
}
ssize_t pread64(int file, void *to, size_t size, off64_t from) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    if (lost(file)) { errno = EIO; return -1; }
    return real(file, to, size, from);
}
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (which == CLOCK_REALTIME && getenv("CLOCK")) now->tv_sec -= atoll(getenv("CLOCK"));
    return failed;
}
"""

#: A tracker that removes a file and changes another as soon as the stage begins that reads their pixels.
MEDDLER = """\
import shutil
from pathlib import Path
from ctkit.hookspecs import hookimpl

@hookimpl
def ctkit_stage_started(stage):
    if stage == "describe" and Path("other.png").exists():
        Path("scans/p1_1.png").unlink()
        shutil.move("other.png", "scans/p2_2.png")
"""
Start = Callable[..., str]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("no gcc to make a shim with")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "shim.so", "shim.c", "-ldl"], cwd=folder, check=True)
    return folder / "shim.so"


def picture(seed: int, path: Path) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32)).astype(np.uint8)).save(path)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Run commands in a folder of scans, in a process of their own; return what they say."""
    (tmp_path / "scans").mkdir()
    for number in range(12):
        picture(number, tmp_path / "scans" / f"p{number // 4}_{number % 4}.png")
    (tmp_path / "p.toml").write_text(PIPELINE.format(dataset="images"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)

    def _start(*words: str, memory: int = 0, **environment: str) -> str:
        limit = f"ulimit -v {memory // 1024}; " if memory else ""
        command = f'{limit}exec "{sys.executable}" -m ctkit "$@"'
        words = words or ("run", "p.toml", "--until", "select")
        known = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environment
        done = subprocess.run(
            ["bash", "-c", command, "ctkit", *words], env=known, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return _start


def chosen() -> list[tuple[str, str, str]]:
    """What is kept, whatever the volumes are called."""
    rows = read_csv(RUN / "arms" / "hash" / "selection.csv")
    return [(row["source"], row["kept"], row["distance"]) for row in rows]


def skipped() -> dict[str, str]:
    return {row["source"]: row["reason"] for row in read_csv(RUN / "skipped.csv")}


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of address space")
def test_a_volume_that_does_not_fit_into_a_workers_memory_is_left_out(start: Start) -> None:
    shutil.rmtree("scans")
    Path("scans").mkdir()
    small = np.random.default_rng(0).integers(-1000, 1000, (16, 16, 6)).astype(np.int16)
    for name in ("a", "b"):
        nibabel.save(nibabel.Nifti1Image(small, np.eye(4)), f"scans/{name}.nii")
    header = nibabel.Nifti1Image(small, np.eye(4)).header
    header.set_data_shape((512, 512, 3000))
    header.set_slope_inter(1, -1024)
    with Path("scans/large.nii").open("wb") as file:  # 1.6 GB that take no room: most of it is air
        header.write_to(file)
        for plane in range(0, 3000, 50):
            file.seek(352 + 2 * 512 * 512 * plane)
            file.write(np.resize(small, (512, 512)).tobytes())
        file.truncate(352 + 2 * 512 * 512 * 3000)
    Path("p.toml").write_text(PIPELINE.format(dataset="nifti"))
    start(memory=1300 << 20)
    assert {source for source, *_ in chosen()} == {"a.nii", "b.nii"}
    assert set(skipped()) == {"large.nii"}
    assert "memory" in skipped()["large.nii"]


def test_a_source_file_that_the_disk_cannot_read_is_left_out_until_it_can(start: Start, shim: Path) -> None:
    file = Path("scans/p1_2.png")
    start(LD_PRELOAD=str(shim), EIO=str(file.stat().st_ino))
    assert set(skipped()) == {"p1_2.png"}
    assert len(chosen()) == 11
    start()
    assert (skipped(), len(chosen())) == ({}, 12)


@pytest.mark.parametrize("kind", ["scan", "reading", "evidence", "selection"])
def test_an_entry_that_the_disk_cannot_read_is_rebuilt(start: Start, shim: Path, kind: str) -> None:
    start()
    before = chosen()
    if kind == "evidence":
        shutil.rmtree(CACHE / "selection")
    entry = next(path for path in sorted((CACHE / kind).rglob("*.*")) if path.name != "sums.json")
    os.link(entry, "held")  # so that no new file is given its number
    said = start(LD_PRELOAD=str(shim), EIO=str(entry.stat().st_ino))
    assert f"{kind}/" in said
    assert "damaged" in said
    assert chosen() == before


def test_a_clock_that_is_set_back_changes_nothing(start: Start, shim: Path) -> None:
    year = {"LD_PRELOAD": str(shim), "CLOCK": str(365 * 24 * 3600)}
    start()
    before, first = chosen(), read_json(RUN / "run.json")
    picture(99, Path("scans/p0_4.png"))  # in what is now the future
    start(**year)
    later = read_json(RUN / "run.json")
    assert (later["state"], later["started"] < first["started"]) == ("stopped at select", True)
    assert [row for row in chosen() if row[0] != "p0_4.png"] == before
    assert "faults" in start("runs", **year)
    assert "nothing to free" in start("clean", "--older-than", "1d", "--yes", **year)
    start()
    assert len(chosen()) == 13


def test_source_files_that_change_or_go_in_mid_run_cost_themselves(start: Start, tmp_path: Path) -> None:
    info = tmp_path / "site" / "meddler-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "meddler.py").write_text(MEDDLER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: meddler\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nmeddler = meddler\n")
    picture(99, Path("other.png"))
    start(PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    assert not Path("other.png").exists()
    assert set(skipped()) == {"p1_1.png"}
    assert len(chosen()) == 11
    start()
    again = chosen()
    assert (skipped(), len(again)) == ({}, 11)
    shutil.rmtree("runs")
    start()
    assert chosen() == again, "what was read in between is believed by nobody"
