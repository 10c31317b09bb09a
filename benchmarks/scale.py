"""How cost grows with the number of volumes: CPU time and memory of each stage on synthetic archives.

    python benchmarks/scale.py [--volumes 1000 10000 50000] [--slices 5] [--side 32] [--workers 2] [--dask]

An archive is DICOM: the header of a real LIDC slice in $CTKIT_REAL_DATA (see CONTRIBUTING.md), with identifiers and
places of its own in each file, and few pixels. So the figures show what a volume and a slice cost beyond their pixels.
Each stage runs as a whole process on what the stages before it have left. CPU seconds are those of the process and of
its workers, start-up included; memory is the highest resident memory of the largest of these processes. The cost of a
volume is the difference between two sizes: where a line is straight, it does not grow.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))
from ctkit.files import iterate_csv

CURVED = 1.25  # times the cost of a volume between the two smallest sizes, from which on a line is called curved

PIPELINE = """
[run]
name = "{name}"
[compute]
device = "cpu"
workers = {workers}
backend = "{backend}"
[dataset]
use = "lidc-idri"
root = {root}
[[reduce]]
use = "hash"
id = "hash"
scope = "{scope}"
threshold = 6
"""


class Cost(NamedTuple):
    """What a process took."""

    cpu: float  #: seconds, workers included
    memory: int  #: bytes
    seconds: float


@dataclass(frozen=True)
class Measured:
    """An archive and what became of it."""

    volumes: int
    costs: dict[str, Cost]
    sizes: dict[str, int]  #: bytes


def main() -> None:
    """Make the archives, run the stages, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--slices", type=int, default=5, help="of a volume")
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dask", action="store_true", help="also compare with a Dask cluster, on the first archive")
    parser.add_argument("--folder", type=Path, help="for archives and runs; default: a temporary one")
    options = parser.parse_args()
    source = Path(os.environ.get("CTKIT_REAL_DATA", "../shared/data")) / "lidc-idri"
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measured = []
        for number, volumes in enumerate(options.volumes):
            folder = Path(name) / str(volumes)
            write_archive(source, folder / "scans", volumes, options.slices, options.side)
            measured.append(measure(folder, volumes, options.workers))
            print(figures(measured), flush=True)
            if options.dask and not number:
                print(f"Dask gives the same selection: {'yes' if same_by_dask(folder, options.workers) else 'NO'}")
            shutil.rmtree(folder)


def write_archive(source: Path, target: Path, volumes: int, slices: int, side: int) -> None:
    """Write volumes of a patient each, every slice a file; slices of a volume resemble each other in part."""
    template, marks = _template(source, side)
    rng = np.random.default_rng(0)
    for volume in range(volumes):
        folder = target / f"P{volume:06d}" / "study" / "series"
        folder.mkdir(parents=True)
        levels = rng.integers(-1000, 1000, (side, side))
        for number in range(slices):
            if number % 2:  # every other slice is as the one before, but for noise
                pixels = levels + rng.integers(0, 3, (side, side))
            else:
                pixels = levels = np.roll(levels, 5, axis=0) + rng.integers(-300, 300, (side, side))
            uid = f"{volume:08d}.{number:04d}"
            content = template.replace(marks["patient"], f"P{volume:06d}".encode())
            content = content.replace(marks["series"], f"7{volume:08d}".encode())
            content = content.replace(marks["instance"], uid.encode()).replace(marks["z"], f"{number:04d}".encode())
            content = content.replace(marks["number"], f"{number + 1:04d}".encode())
            (folder / f"{number:04d}.dcm").write_bytes(content[: -pixels.size * 2] + pixels.astype("<i2").tobytes())


def _template(source: Path, side: int) -> tuple[bytes, dict[str, bytes]]:
    """The file of a real slice with few pixels, and marks where each file has its own, all of the same length."""
    path = next(path for path in sorted(source.rglob("*.dcm")) if path.stat().st_size > 500_000)
    header = pydicom.dcmread(path)
    marks = {"patient": "QPATIEN", "series": "788888888", "instance": "66666666.6666", "z": "5555", "number": "4444"}
    header.Rows = header.Columns = side
    header.PatientID = header.PatientName = marks["patient"]
    header.StudyInstanceUID = f"1.2.3.{marks['series']}.1"
    header.SeriesInstanceUID = f"1.2.3.{marks['series']}.2"
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{marks['instance']}"
    header.InstanceNumber = marks["number"]
    header.ImagePositionPatient = [*header.ImagePositionPatient[:2], f"-{marks['z']}"]
    header.SliceLocation = f"-{marks['z']}"
    header.RescaleIntercept, header.RescaleSlope, header.PixelRepresentation = 0, 1, 1
    header.PixelData = bytes(2 * side * side)
    for element in [element for element in header if element.tag > (0x7FE0, 0x0010)]:
        del header[element.tag]
    file = io.BytesIO()
    header.save_as(file)
    return file.getvalue(), {name: mark.encode() for name, mark in marks.items()}


def measure(folder: Path, volumes: int, workers: int) -> Measured:
    """Run stage by stage; the arm of the data-set scope is another run on the same cache."""
    for scope in ("volume", "dataset"):
        write_pipeline(folder, scope, workers=workers, scope=scope)
    costs = {
        "scan": run(folder, "volume", "--until", "scan"),
        "describe": run(folder, "volume", "--until", "describe"),
        "select (volume)": run(folder, "volume", "--until", "select"),
        "select (dataset)": run(folder, "dataset", "--until", "select"),
        "second start": run(folder, "volume", "--until", "select"),
        "report": run(folder, "volume"),
    }
    runs = folder / "runs"
    cache = [path.stat() for path in (runs / ".cache").rglob("*") if path.is_file()]
    sizes = {
        "report.html": (runs / "volume" / "report.html").stat().st_size,
        "selection.csv": sum(path.stat().st_size for path in (runs / "volume").rglob("selection.csv*")),
        "cache": sum(8 * 512 * -(-stat.st_size // 4096) for stat in cache),
        "files of the cache": len(cache),
    }
    return Measured(volumes, costs, sizes)


def write_pipeline(folder: Path, name: str, *, workers: int, scope: str, backend: str = "processes") -> None:
    """Write a pipeline file of one arm."""
    root = json.dumps(str(folder / "scans"))
    text = PIPELINE.format(name=name, workers=workers, scope=scope, backend=backend, root=root)
    (folder / f"{name}.toml").write_text(text)


def run(folder: Path, name: str, *options: str) -> Cost:
    """Run a pipeline as a whole process, which must succeed."""
    command = [sys.executable, "-m", "ctkit", "run", f"{name}.toml", "--quiet", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CTKIT_CACHE": str(folder / "runs" / ".cache")}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    cost = Cost(used.ru_utime + used.ru_stime, used.ru_maxrss * unit, time.perf_counter() - began)
    print(f"{folder.name} {name} {' '.join(options)}: {cost}", file=sys.stderr, flush=True)
    return cost


def same_by_dask(folder: Path, workers: int) -> bool:
    """Whether workers of a local Dask cluster choose the same slices of an archive, in a cache of their own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        other = Path(name)
        (other / "scans").symlink_to(folder / "scans")
        write_pipeline(other, "dask", workers=workers, scope="volume", backend="dask")
        run(other, "dask", "--until", "select")
        return chosen(folder, "volume") == chosen(other, "dask")


def chosen(folder: Path, name: str) -> list[list[str]]:
    """What a run's arm has chosen; the digests of volumes differ between caches."""
    (table,) = (folder / "runs" / name / "arms" / "hash").glob("selection.csv*")
    return [[value for key, value in row.items() if key != "volume"] for row in iterate_csv(table)]


def figures(measured: list[Measured]) -> str:
    """Return the tables as Markdown: a row for each stage and size, a column for each archive."""
    head = " | ".join(f"{one.volumes:,} volumes" for one in measured)
    lines = [f"| CPU seconds, peak memory | {head} | ms a volume | line |", f"|---|{'---|' * len(measured)}---|---|"]
    for stage in measured[0].costs:
        cells = [f"{one.costs[stage].cpu:.1f} s, {one.costs[stage].memory / 1e6:.0f} MB" for one in measured]
        each = _of_a_volume(measured, [one.costs[stage].cpu * 1000 for one in measured])
        memory = _of_a_volume(measured, [one.costs[stage].memory / 1000 for one in measured])
        lines.append(f"| {stage} | {' | '.join(cells)} | {_list(each)}; {_list(memory)} kB | {_shape(each)} |")
    for name in measured[0].sizes:
        sizes = [float(one.sizes[name]) for one in measured]
        each = _of_a_volume(measured, sizes)
        lines.append(
            f"| {name} | {' | '.join(f'{size:,.0f}' for size in sizes)} | {_list(each)} each | {_shape(each)} |"
        )
    return "\n".join(lines)


def _of_a_volume(measured: list[Measured], costs: list[float]) -> list[float]:
    """What each volume more costs, between one size and the next."""
    pairs = zip(measured, measured[1:], costs, costs[1:], strict=False)
    return [(high - low) / (large.volumes - small.volumes) for small, large, low, high in pairs]


def _list(numbers: list[float]) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers) or "-"


def _shape(each: list[float]) -> str:
    if len(each) < 2:
        return "-"
    return "straight" if each[-1] <= CURVED * max(each[0], 0.01) else "CURVED"


if __name__ == "__main__":
    main()
