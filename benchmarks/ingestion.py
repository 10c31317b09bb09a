"""How fast DICOM becomes a selection, against the published way and against bare decoding, in one run.

    pip install opencv-python-headless
    python benchmarks/ingestion.py [--slices 5904] [--pairs 5] [--workers 2] [--write]

The real LIDC slices in $CTKIT_REAL_DATA (see CONTRIBUTING.md) are repeated, as series of their own, to the number of
slices asked for. Then these two are timed as whole processes, start-up included, by turns, ``--pairs`` times:

published   one process, as users have it: DICOM to PNG with OpenCV, PNG back, imagehash.dhash, greedy loop, copy of
            what is kept
ctkit       ``ctkit run --until select`` with an empty cache

In a process of its own, the same volumes are described as a worker does it, and each file is decoded by pydicom alone.
A ratio is the median over the pairs, with its range: once of wall time, once of the CPU time of all processes, which
is what to look at on a machine with other work. ``--write`` puts the ratios into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import performance_page as page
import pydicom

GOAL_WHOLE, GOAL_DESCRIBE = 12, 1.5  # times the published way; times the bare decoding rate of a core

PUBLISHED = """
import shutil, sys
from pathlib import Path
import cv2, imagehash, numpy as np, pydicom
from PIL import Image
root, out = Path(sys.argv[1]), Path(sys.argv[2])
(out / "kept").mkdir(parents=True)
codes, names = [], []
for number, path in enumerate(sorted(root.rglob("*.dcm"))):
    dataset = pydicom.dcmread(path)
    image = dataset.pixel_array.astype(np.int16)
    image[image == -2000] = 0
    image = image * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)
    name = out / f"{path.parts[-4]}_{number}.png"
    cv2.imwrite(str(name), image)
for name in sorted(out.glob("*.png")):
    codes.append(imagehash.dhash(Image.fromarray(cv2.imread(str(name), cv2.IMREAD_GRAYSCALE))))
    names.append(name)
kept, patient = [], None
for code, name in zip(codes, names):
    if name.stem.rsplit("_", 1)[0] != patient:
        kept, patient = [], name.stem.rsplit("_", 1)[0]
    if all(code - other > 6 for other in kept):
        kept.append(code)
        shutil.copy(name, out / "kept")
"""

DESCRIBE = """
import json, sys, time, tomllib
from pathlib import Path
import pydicom
from ctkit import pipeline_file, plugins
from ctkit.contracts import Volume
from ctkit.stages.decoding import Wanted, describe_volumes
from ctkit.storage import Cache
pipeline = pipeline_file.resolve(tomllib.loads(Path(sys.argv[1]).read_text()), plugins.load(), Path.cwd())
dataset, cache, reducers = pipeline.dataset.build(), Cache(Path(sys.argv[2])), (pipeline.arms[0].steps[0].reducer,)
found = list(dataset.arrange((file, dataset.inspect(file)) for file in dataset.files()))
volumes = [one for one in found if isinstance(one, Volume)]
wanted = [Wanted(n, f"{n:064x}", volume, None, reducers) for n, volume in enumerate(volumes)]
times = [time.process_time()]
for item in wanted:
    assert describe_volumes(pipeline.dataset, cache, pipeline.rendering, [item])[0][0].reading.span[1] > 0
times.append(time.process_time())
for volume in volumes:
    for file in volume.files:
        pydicom.dcmread(dataset.params.root / file.path).pixel_array
times.append(time.process_time())
print(json.dumps([times[1] - times[0], times[2] - times[1]]))
"""

PIPELINE = """
[run]
name = "benchmark"
[compute]
workers = {workers}
[dataset]
use = "lidc-idri"
root = {root}
[[reduce]]
use = "hash"
threshold = 6
"""


ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class Taken(NamedTuple):
    """Seconds of a command."""

    wall: float
    cpu: float  #: user and system, of all its processes


class Round(NamedTuple):
    """One of each."""

    published: Taken
    ctkit: Taken
    describing: float  #: CPU seconds
    decoding: float  #: CPU seconds


def main() -> None:
    """Make the slices, time the three by turns, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=5904)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", action="store_true", help="write the ratios into docs/performance.md")
    options = parser.parse_args()
    source = Path(os.environ.get("CTKIT_REAL_DATA", "../shared/data")) / "lidc-idri"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = repeat_series(source, folder / "scans", options.slices)
        print(f"{len(files)} slices, {options.workers} workers, {page.machine()}")
        for path in files:  # all find the files in the page cache
            path.read_bytes()
        rounds = []
        for number in range(options.pairs):
            rounds.append(one_round(folder, options.workers))
            say(f"pair {number + 1}", rounds[-1], len(files))
    rows = ratios(rounds, len(files), options.workers)
    for row in rows:
        print(f"{row.measure}: {row.ratio}; {row.limit}")
    if options.write:
        page.write("ingestion.py", rows)


def one_round(folder: Path, workers: int) -> Round:
    """Time each once."""
    published = timed([sys.executable, "-c", PUBLISHED, str(folder / "scans"), str(folder / "png")])
    shutil.rmtree(folder / "png")
    return Round(published, time_ctkit(folder, workers), *time_describing(folder))


def say(what: str, one: Round, slices: int) -> None:
    """Print the seconds of a round."""
    for name, taken in (("published", one.published), ("ctkit", one.ctkit)):
        each = f"{taken.cpu / slices * 1000:6.2f} ms CPU a slice"
        print(f"{what}  {name:10} {taken.wall:7.2f} s wall  {taken.cpu:7.2f} s CPU  {each}")
    each = (1000 * seconds / slices for seconds in (one.describing, one.decoding))
    print("{}  describing {:.3f}, decoding {:.3f} ms CPU a slice".format(what, *each), flush=True)


def ratios(rounds: list[Round], slices: int, workers: int) -> list[page.Row]:
    """What the rounds say, beside the goals."""
    wall, cpu = (median(getattr(one.published, of) for one in rounds) for of in ("wall", "cpu"))
    rate = slices / median(one.decoding for one in rounds)
    return [
        page.Row(
            f"{slices:,} slices from DICOM to a selection, {workers} workers",
            f"the published way in one process, {wall:.1f} s",
            f"{GOAL_WHOLE} times faster",
            page.ranged([one.published.wall / one.ctkit.wall for one in rounds]),
        ),
        page.Row(
            "CPU time of the same, all processes",
            f"the published way, {cpu:.1f} s",
            "none",
            page.ranged([one.published.cpu / one.ctkit.cpu for one in rounds]),
        ),
        page.Row(
            "slices described in a second of CPU time, from files to hashes",
            f"`pydicom.dcmread(path).pixel_array`, {rate:.0f}",
            f"{GOAL_DESCRIBE} times as many",
            page.ranged([one.decoding / one.describing for one in rounds], 2),
        ),
    ]


def repeat_series(source: Path, target: Path, slices: int) -> list[Path]:
    """Copy readable series under new patients and series until there are ``slices`` of them."""
    readable = [path for path in sorted(source.rglob("*.dcm")) if path.stat().st_size > 500_000]
    files: list[Path] = []
    copy = 0
    while len(files) < slices:
        for path in readable[: slices - len(files)]:
            dataset = pydicom.dcmread(path)
            dataset.PatientID = f"{dataset.PatientID}-{copy}"
            dataset.SeriesInstanceUID = f"{dataset.SeriesInstanceUID[:55]}.{copy}"
            patient, study, series, file = path.parts[-4:]
            new = target / f"{patient}-{copy}" / study / series / file
            new.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(new)
            files.append(new)
        copy += 1
    return files


def time_ctkit(folder: Path, workers: int) -> Taken:
    """What the whole process takes, with an empty cache."""
    pipeline, runs = folder / "p.toml", folder / "runs"
    pipeline.write_text(PIPELINE.format(workers=workers, root=json.dumps(str(folder / "scans"))))
    command = [sys.executable, "-m", "ctkit", "run", str(pipeline), "--until", "select", "--quiet"]
    taken = timed([*command, "--out", str(runs / "benchmark")])
    shutil.rmtree(runs)
    return taken


def time_describing(folder: Path) -> tuple[float, float]:
    """CPU seconds of describing all volumes, and of decoding all files, in one process."""
    command = [sys.executable, "-c", DESCRIBE, str(folder / "p.toml"), str(folder / "described")]
    found = subprocess.run(command, check=True, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE).stdout
    described, decoded = json.loads(found)
    return described, decoded


def timed(command: list[str]) -> Taken:
    """Seconds of a process that must succeed and does not wait for what was written to disk before it."""
    os.sync()
    began = now()
    subprocess.run(command, check=True, env=os.environ | ONE_THREAD)
    return since(began)


def now() -> Taken:
    """The clock, and the CPU time of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Taken(time.perf_counter(), used.ru_utime + used.ru_stime)


def since(began: Taken) -> Taken:
    """Seconds from ``began``."""
    ended = now()
    return Taken(ended.wall - began.wall, ended.cpu - began.cpu)


if __name__ == "__main__":
    main()
