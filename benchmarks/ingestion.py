"""How fast DICOM becomes a selection, against the published way and against bare decoding, in one run.

    pip install opencv-python-headless
    python benchmarks/ingestion.py [--slices 6000] [--workers 2]

The real LIDC slices in $CTKIT_REAL_DATA (see CONTRIBUTING.md) are repeated, as series of their own, to the number of
slices asked for. Three things are then timed as whole processes, start-up included:

published   one process: DICOM to PNG with OpenCV, PNG back, imagehash.dhash, greedy loop, copy of what is kept
ctkit       ``ctkit run --until select`` with an empty cache
decoding    as many bare processes as ctkit has workers, each ``pydicom.dcmread(path).pixel_array``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pydicom

GOAL_WHOLE, GOAL_STEADY = 10, 0.5  # times the published way; share of the bare decoding rate

PUBLISHED = """
import shutil, sys
from pathlib import Path
import cv2, imagehash, numpy as np, pydicom
from PIL import Image
root, out = Path(sys.argv[1]), Path(sys.argv[2])
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
(out / "kept").mkdir()
for code, name in zip(codes, names):
    if name.stem.rsplit("_", 1)[0] != patient:
        kept, patient = [], name.stem.rsplit("_", 1)[0]
    if all(code - other > 6 for other in kept):
        kept.append(code)
        shutil.copy(name, out / "kept")
"""

DECODE = """
import sys
import pydicom
for path in sys.stdin.read().split("\\n"):
    pydicom.dcmread(path).pixel_array
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


def main() -> None:
    """Make the slices, time the three, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    source = Path(os.environ.get("CTKIT_REAL_DATA", "../shared/data")) / "lidc-idri"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = repeat_series(source, folder / "scans", options.slices)
        print(f"{len(files)} slices, {options.workers} workers")
        published = timed([sys.executable, "-c", PUBLISHED, str(folder / "scans"), str(made(folder / "png"))])
        ours, steady = time_ctkit(folder, options.workers)
        bare = time_decoding(files, options.workers)
    print(f"published way   {published:8.1f} s  {published / len(files) * 1000:6.2f} ms a slice, one process")
    print(f"ctkit           {ours:8.1f} s  {ours / len(files) * 1000:6.2f} ms a slice, start-up included")
    print(f"bare decoding   {bare:8.1f} s  {len(files) / bare:6.0f} slices/s")
    report("ctkit against the published way, whole processes", published / ours, GOAL_WHOLE, "times faster")
    report("describe against bare decoding, steady state", bare / steady, GOAL_STEADY, "of the rate")


def repeat_series(source: Path, target: Path, slices: int) -> list[Path]:
    """Copy readable series under new patients and series until there are about ``slices`` of them."""
    readable = [path for path in sorted(source.rglob("*.dcm")) if path.stat().st_size > 500_000]
    files: list[Path] = []
    copy = 0
    while len(files) < slices:
        for path in readable[: slices - len(files)]:
            dataset = pydicom.dcmread(path)
            dataset.PatientID = f"{dataset.PatientID}-{copy}"
            dataset.SeriesInstanceUID = f"{dataset.SeriesInstanceUID[:55]}.{copy}"
            patient, study, series, file = path.parts[-4:]
            new = made(target / f"{patient}-{copy}" / study / series) / file
            dataset.save_as(new)
            files.append(new)
        copy += 1
    return files


def time_ctkit(folder: Path, workers: int) -> tuple[float, float]:
    """Seconds of the whole process, and of its describe stage."""
    (folder / "p.toml").write_text(PIPELINE.format(workers=workers, root=json.dumps(str(folder / "scans"))))
    command = [sys.executable, "-m", "ctkit", "run", str(folder / "p.toml"), "--until", "select", "--quiet"]
    seconds = timed([*command, "--out", str(folder / "runs" / "benchmark")])
    stages = json.loads((folder / "runs" / "benchmark" / "run.json").read_text())["stages"]
    return seconds, sum(stage["seconds"] for stage in stages if stage["stage"] == "describe")


def time_decoding(files: list[Path], workers: int) -> float:
    """Seconds until as many processes as ``workers`` have decoded all files, less their start-up."""
    for path in files:  # all three find the files in the page cache
        path.read_bytes()
    began = time.perf_counter()
    processes = [
        subprocess.Popen([sys.executable, "-c", DECODE], stdin=subprocess.PIPE, text=True) for _ in range(workers)
    ]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write("\n".join(map(str, files[number::workers])))
        process.stdin.close()
    for process in processes:
        process.wait()
    seconds = time.perf_counter() - began
    return seconds - timed([sys.executable, "-c", "import pydicom, numpy"])


def timed(command: list[str]) -> float:
    """Seconds of a process that must succeed and does not wait for what was written to disk before it."""
    os.sync()
    began = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


def made(folder: Path) -> Path:
    """Return a folder that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def report(what: str, ratio: float, goal: float, unit: str) -> None:
    """Print a ratio beside its goal."""
    print(f"{what}: {ratio:.2f} {unit} (goal {goal:g}: {'reached' if ratio >= goal else 'MISSED'})")


if __name__ == "__main__":
    main()
