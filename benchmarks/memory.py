"""How much memory a run takes: of each worker against its largest volume, of the main process against the slices.

    python benchmarks/memory.py [--volumes 200] [--slices 120] [--matrix 512] [--workers 2] [--reducers hash ssim]

Phantom volumes are written as DICOM, a few of them once for each patient under another name. Then ``ctkit run --until
select`` runs as a whole process: on one tiny volume, which shows what a worker takes without any, on all, and on the
tiny one beside small files that grow to gigabytes.
Peaks are the highest resident memory that Linux notes of a process (VmHWM), less pages of mapped files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pydicom

from ctkit_datasets.phantom import Phantom, PhantomParams

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "shared"))
from phantom_files import write_dicom

MIB = 1 << 20
GOAL_WORKER = 4  # times the largest volume, above what an idle worker takes
GOAL_MAIN, GOAL_SLICE = 300_000_000, 200  # bytes of the main process, and for each slice
GOAL_BOMBS = 64  # MiB of a worker above idle
BOMB = 2500  # MiB that a deflated file grows to
DIFFERENT = 4  # volumes that differ; the others repeat them

PIPELINE = """
[run]
name = "memory"
[compute]
workers = {workers}
[dataset]
use = "dicom"
root = {root}
"""


@dataclass
class Peaks:
    """Highest resident memory of the main process and of any worker, bytes."""

    main: int = 0
    workers: dict[int, int] = field(default_factory=dict)

    @property
    def worker(self) -> int:
        """Of the worker that took most."""
        return max(self.workers.values())


def main() -> None:
    """Write the phantoms, run, print peaks beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--matrix", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--reducers", nargs="+", default=["hash", "ssim"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volumes(folder / "tiny", volumes=1, slices=3, matrix=32)
        idle = peaks(folder / "tiny", options.workers, options.reducers)
        write_bombs(folder / "tiny")
        beside = peaks(folder / "tiny", options.workers, options.reducers)
        write_volumes(folder / "all", options.volumes, options.slices, options.matrix)
        busy = peaks(folder / "all", options.workers, options.reducers)
    volume = 2 * options.slices * options.matrix**2
    slices = options.volumes * options.slices
    print(f"{options.volumes} volumes of {volume / MIB:.1f} MiB, {slices} slices, {' and '.join(options.reducers)}")
    print(f"worker  {idle.worker / MIB:7.1f} MiB idle  {busy.worker / MIB:7.1f} MiB at its peak")
    print(f"main    {idle.main / MIB:7.1f} MiB idle  {busy.main / MIB:7.1f} MiB at its peak")
    report("a worker above idle", (busy.worker - idle.worker) / volume, GOAL_WORKER, "of its largest volume")
    report("a worker beside files that grow", (beside.worker - idle.worker) / MIB, GOAL_BOMBS, "MiB above idle")
    allowed = GOAL_MAIN + GOAL_SLICE * slices
    report("the main process", busy.main / allowed, 1, f"of {GOAL_MAIN // 10**6} MB and {GOAL_SLICE} bytes a slice")
    print(f"the main process takes {(busy.main - idle.main) / slices:.0f} bytes a slice above idle")


def write_volumes(root: Path, volumes: int, slices: int, matrix: int) -> None:
    """Write as many volumes as asked for, ``DIFFERENT`` of them different."""
    params = PhantomParams(patients=min(volumes, DIFFERENT), slices=slices, slice_spacing=2.5, matrix=matrix)
    originals = [(path, pydicom.dcmread(path)) for path in write_dicom(root, Phantom(params))]
    for copy in range(1, -(-volumes // DIFFERENT)):
        for path, dataset in originals:
            again = root / f"copy-{copy}" / path.relative_to(root)
            again.parent.mkdir(parents=True, exist_ok=True)
            dataset.PatientID = f"{path.parts[-4]}-{copy}"
            dataset.SeriesInstanceUID = f"{dataset.SeriesInstanceUID.rpartition('.')[0]}.{copy}"
            dataset.save_as(again)


def write_bombs(root: Path) -> None:
    """Write deflated copies of a slice: with much behind its pixels, and with more pixels claimed than there are."""
    data = pydicom.dcmread(next(root.rglob("*.dcm")))
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.SeriesInstanceUID = "1.2.3"
    for name, rows, grown in (("behind", data.Rows, BOMB), ("claimed", 4096, 1)):
        data.Rows = data.Columns = rows
        data.save_as(root / f"{name}.dcm")
        packed = (root / f"{name}.dcm").read_bytes()
        start = 144 + int.from_bytes(packed[140:144], "little")  # past the file meta information
        packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        with (root / f"{name}.dcm").open("wb") as file:
            file.write(packed[:start] + packer.compress(zlib.decompress(packed[start:], wbits=-zlib.MAX_WBITS)))
            for _ in range(grown):
                file.write(packer.compress(bytes(MIB)))
            file.write(packer.flush())


def peaks(root: Path, workers: int, reducers: list[str]) -> Peaks:
    """Run as a whole process on the files below ``root`` and return the peaks."""
    pipeline = root.with_suffix(".toml")
    arms = "".join(f'[[reduce]]\nuse = "{name}"\nkeep = {{ share = 0.2 }}\n' for name in reducers)
    pipeline.write_text(PIPELINE.format(workers=workers, root=json.dumps(str(root))) + arms)
    out = ["--out", str(root.parent / f"run-{root.name}" / "run")]
    command = [sys.executable, "-m", "ctkit", "run", str(pipeline), "--until", "select", "--quiet", *out]
    found = Peaks()
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, found, ended))
        watch.start()
        code = process.wait()
        ended.set()
        watch.join()
    if code:
        raise SystemExit(f"ctkit ended with {code}")
    return found


def _watch(pid: int, found: Peaks, ended: threading.Event) -> None:
    """Note the peaks of a process and of its workers until it has ended; what Linux notes is never too low."""
    main = psutil.Process(pid)
    while not ended.wait(0.02):
        try:
            children = main.children()
        except psutil.NoSuchProcess:
            return
        found.main = max(found.main, _highest(pid))
        for child in children:
            found.workers[child.pid] = max(found.workers.get(child.pid, 0), _highest(child.pid))


def _highest(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return 1024 * max(0, int(fields.get("VmHWM", "0 kB").split()[0]) - int(fields.get("RssFile", "0 kB").split()[0]))


def report(what: str, share: float, limit: float, of: str) -> None:
    """Print what was taken beside its limit."""
    print(f"{what}: {share:.2f} {of} (limit {limit:g}: {'kept' if share <= limit else 'EXCEEDED'})")


if __name__ == "__main__":
    main()
