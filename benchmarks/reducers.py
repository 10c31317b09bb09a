"""How fast the reducers are, each against the plain way of doing the same in the same run.

    python benchmarks/reducers.py [hash] [threshold] [ssim] [mutual-information] [embedding]

Pixels come from the real scans in $CTKIT_REAL_DATA (see CONTRIBUTING.md). Work on the CPU is measured in CPU seconds of
one thread, so that a busy machine does not distort the ratios; work on a GPU in seconds on the wall.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from PIL import Image
from scans import lidc_scan

from ctkit.contracts import Decision, Group, Slices
from ctkit_reducers.hash import Hash, packed
from ctkit_reducers.mutual_information import LEVELS, MutualInformation
from ctkit_reducers.ssim import Ssim

CODES = 541_439  # slices of the PET-CT collection that the paper's scripts process
VOLUMES = 891
LIDC_SLICES, LIDC_VOLUMES = 243_958, 1018
LOOP = 50_000  # codes that the plain loops go through
LOOP_SECONDS = 20  # after which a plain loop is stopped, and the rest of it extrapolated


@dataclass(frozen=True)
class Row:
    """One comparison: seconds of the plain way and of ctkit for the same work."""

    what: str
    plain: float
    ours: float
    goal: float  #: ratio to reach
    note: str = ""

    def __str__(self) -> str:
        ratio = self.plain / self.ours
        verdict = "reached" if ratio >= self.goal else "MISSED"
        numbers = f"{seconds(self.plain):>10} {seconds(self.ours):>10} {ratio:9,.0f} x  (goal {self.goal:g}: {verdict})"
        return f"{self.what:<58} {numbers}  {self.note}"


def main() -> None:
    """Run the benchmarks that the command line names, or all."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    print(f"{'':58} {'plain':>10} {'ctkit':>10} {'ratio':>11}")
    for name in chosen:
        for row in BENCHMARKS[name]():
            print(row, flush=True)


# --- hash: the whole data set as one group ------------------------------------------------------------------------


def hash_dataset() -> Iterator[Row]:
    """Greedy selection of codes that resemble their neighbours, in data-set scope."""
    import imagehash

    codes = random_walks(CODES, CODES // VOLUMES)
    decision, ours = timed(lambda: select(Hash(), codes, 6))
    megabytes = peak_megabytes(lambda: select(Hash(), codes, 6))
    note = f"{decision.kept.sum():,} kept, at most {megabytes:,.0f} MB beside the codes"
    comparisons = comparisons_of_loop(decision)
    hashes = [imagehash.hex_to_hash(f"{code:016x}") for code in codes[:LOOP, 0].tolist()]
    plain = time_per_comparison(hashes, lambda one, other: one - other <= 6) * comparisons
    yield Row(f"hash, {CODES:,} codes in one group, loop over ImageHash", plain, ours, 50, note)
    integers = codes[:LOOP, 0].tolist()
    plain = time_per_comparison(integers, lambda one, other: (one ^ other).bit_count() <= 6) * comparisons
    yield Row(f"hash, {CODES:,} codes in one group, loop over integers", plain, ours, 50)


def random_walks(n: int, steps: int) -> NDArray[np.uint64]:
    """Codes (n, 1): walks of so many steps from a random code, one bit flipped a step on average."""
    rng = np.random.default_rng(0)
    bits = rng.random((n, 64)) < 1 / 64
    bits[::steps] = rng.random((len(bits[::steps]), 64)) < 0.5
    for start in range(0, n, steps):
        bits[start : start + steps] = bits[start : start + steps].cumsum(axis=0) % 2
    return packed(bits)


def time_per_comparison(codes: list[Any], alike: Callable[[Any, Any], bool]) -> float:
    """Seconds that the published loop takes for one comparison: each code left removes every later one like it."""
    begin, done, left = time.process_time(), 0, codes
    while left and time.process_time() - begin < LOOP_SECONDS:
        first, *later = left
        left = [code for code in later if not alike(first, code)]
        done += len(later)
    return (time.process_time() - begin) / done


def comparisons_of_loop(decision: Decision) -> int:
    """How many comparisons that loop makes for this result: each slice with every kept one until one removes it."""
    assert decision.by is not None
    kept_so_far = decision.kept.cumsum()
    until = np.where(decision.kept, kept_so_far - 1, kept_so_far[decision.by])
    return int(until.sum())


# --- hash: another threshold on cached codes ----------------------------------------------------------------------


def hash_threshold() -> Iterator[Row]:
    """Another threshold in volume scope: from cached codes, against a script that reads and hashes every PNG again."""
    import imagehash

    codes = random_walks(CODES, CODES // VOLUMES)
    volumes = np.array_split(codes, VOLUMES)
    _, ours = timed(lambda: [select(Hash(), volume, 8) for volume in volumes], times=3)
    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder) / f"{number:03}.png") for number in range(len(real_volume()))]
        for name, image in zip(names, real_volume(), strict=True):
            Image.fromarray(image).save(name)
        hashes, reading = timed(lambda: [imagehash.dhash(Image.open(name)) for name in names], times=3)
    note = f"reading and hashing takes {reading / len(hashes) * 1e3:.1f} ms a slice"
    yield Row(f"another threshold, {CODES:,} codes in volume scope", reading / len(hashes) * CODES, ours, 500, note)
    _, described = timed(lambda: Hash().describe(seen(real_volume())), times=3)
    _, plain = timed(lambda: [imagehash.dhash(Image.fromarray(image)) for image in real_volume()], times=3)
    _, resizing = timed(
        lambda: [Image.fromarray(i).resize((9, 8), Image.Resampling.LANCZOS) for i in real_volume()], times=3
    )
    note = f"{resizing / described:.0%} of it is Pillow's resizing, which sets the limit"
    yield Row(f"hash codes of {len(hashes)} slices, against imagehash.dhash", plain, described, 1, note)


# --- pairs --------------------------------------------------------------------------------------------------------


def ssim() -> Iterator[Row]:
    """Every pair of a real volume, against scikit-image slice by slice."""
    from skimage.metrics import structural_similarity

    yield from pairs(Ssim(), lambda one, other: structural_similarity(one, other, data_range=255), goal=10)


def mutual_information() -> Iterator[Row]:
    """Every pair of a real volume, against numpy's two-dimensional histogram."""
    yield from pairs(MutualInformation(), plain_mutual_information, goal=20)


def pairs(reducer: Any, plain: Callable[[Any, Any], float], goal: float) -> Iterator[Row]:
    """Time the plain way on some pairs, ctkit on some slices, and put both at so many pairs."""
    grey = real_volume()
    some = list(islice(combinations(grey[::10], 2), 30))
    _, plain_seconds = timed(lambda: [plain(one, other) for one, other in some], times=3)
    baseline, goals = plain_seconds / len(some), {"cpu": goal, "cuda": 20.0}
    for device in devices():
        volume = grey[:24] if device == "cpu" else grey
        reducer.describe(seen(volume[:4], device))  # warm up
        _, ours = timed(lambda volume=volume, device=device: reducer.describe(seen(volume, device)), device, 3)
        each = ours / (len(volume) * (len(volume) - 1) / 2)
        lidc, pet_ct = (triangle(n, volumes) * each for n, volumes in ((LIDC_SLICES, LIDC_VOLUMES), (CODES, VOLUMES)))
        note = f"{each * 1e3:.2f} ms a pair; all pairs of LIDC take {seconds(lidc)}, of PET-CT {seconds(pet_ct)}"
        versus = "the plain loop" if device == "cpu" else "ctkit on the CPU"
        yield Row(
            f"{type(reducer).__name__} on {device}, 512 x 512, against {versus}", baseline, each, goals[device], note
        )
        baseline = each


def plain_mutual_information(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Normalised mutual information of two slices, by a joint histogram."""
    counts = np.histogram2d(one.ravel(), other.ravel(), bins=LEVELS, range=((0, 256), (0, 256)))[0]
    share = counts / counts.sum()

    def entropy(p: NDArray[np.float64]) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    own = entropy(share.sum(axis=0)) + entropy(share.sum(axis=1))
    return 2 * (own - entropy(share)) / own


def triangle(slices: int, volumes: int) -> float:
    """Pairs inside volumes that all have the same number of slices: the least there can be."""
    return slices * (slices / volumes - 1) / 2


# --- embedding ----------------------------------------------------------------------------------------------------


def embedding() -> Iterator[Row]:
    """Slices a second, against the network alone on images that are ready on the device."""
    from ctkit_reducers.features import BATCH, embed
    from ctkit_torch.backbones import random_backbone

    for device in devices():
        backbone = random_backbone("resnet50", seed=0)
        backbone.trunk.to(device)
        grey = np.resize(real_volume(), (BATCH if device == "cpu" else 20 * BATCH, 512, 512))
        images = torch.zeros((BATCH, 3, 224, 224), device=device)

        def network(backbone: Any = backbone, images: Any = images, times: int = len(grey) // BATCH) -> None:
            with torch.inference_mode():
                for _ in range(times):
                    backbone.trunk(images)

        network()  # warm up
        _, alone = timed(network, device)
        _, ours = timed(lambda b=backbone, g=grey, d=device: embed(b, g, 224, d), device)
        note = f"{len(grey) / ours:,.0f} slices per second, {alone / ours:.0%} of the network's own rate"
        yield Row(f"embedding on {device}, resnet50 at 224 px, against the network", alone, ours, 0.5, note)


# --- what they share ----------------------------------------------------------------------------------------------


def real_volume() -> NDArray[np.uint8]:
    """(123, 512, 512): a LIDC scan, each slice from its minimum to its maximum, in file order."""
    if not _read:
        root = lidc_scan()
        if root is None:
            raise SystemExit("no real scans: set CTKIT_REAL_DATA to a folder that holds them")
        pixels = np.stack([pydicom.dcmread(path).pixel_array for path in sorted(root.glob("*/*/*.dcm"))]).astype(float)
        low, high = pixels.min(axis=(1, 2), keepdims=True), pixels.max(axis=(1, 2), keepdims=True)
        _read.append(np.rint((pixels - low) / (high - low) * 255).astype(np.uint8))
    return _read[0]


_read: list[NDArray[np.uint8]] = []


def devices() -> tuple[str, ...]:
    """Where reducers that use an accelerator are measured."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def seen(grey: NDArray[np.uint8], device: str = "cpu") -> Slices:
    """The slices as a reducer gets them."""
    return Slices(grey, None, np.arange(len(grey)), device)


def select(reducer: Any, evidence: NDArray[Any], at: float) -> Decision:
    """Select from one group."""
    group = Group(np.zeros(len(evidence), np.int64), np.arange(len(evidence)), evidence)
    decision: Decision = reducer.select(group, at, np.random.default_rng())
    return decision


def timed(work: Callable[[], Any], device: str = "cpu", times: int = 1) -> tuple[Any, float]:
    """What ``work`` returns, and its CPU seconds, or seconds on the wall where a GPU does it; the best of ``times``."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    taken = []
    for _ in range(times):
        begin = clock()
        found = work()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(clock() - begin)
    return found, min(taken)


def peak_megabytes(work: Callable[[], Any]) -> float:
    """Most memory that ``work`` holds at a time."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def seconds(value: float) -> str:
    """A time as a person says it."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value * 1e6:.0f} µs"


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "hash": hash_dataset,
    "threshold": hash_threshold,
    "ssim": ssim,
    "mutual-information": mutual_information,
    "embedding": embedding,
}

if __name__ == "__main__":
    main()
