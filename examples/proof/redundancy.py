"""The study of redundancy: all its trainings, then its page. A second start goes on where the first was stopped.

python examples/proof/redundancy.py [--jobs 2] [--folder runs/proof] [--seeds 5] [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "redundancy.toml"
SLICES, SPACING = 8, 15.0  #: of redundancy 1; spacing in mm
REDUNDANCIES = (1, 3, 10)
FIRST_SEED, SEEDS = 1, 5


def main() -> None:
    """Train what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/proof"), help="of the runs")
    parser.add_argument("--jobs", default="1", help="simultaneous trainings")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value in the file")
    parser.add_argument("--no-page", action="store_true", help="leave docs/proof.md as it is")
    words = parser.parse_args()
    for command in commands(words.folder, [words.seeds], ["--jobs", words.jobs], words.set):
        done = subprocess.run([sys.executable, "-m", "ctkit", *command], check=False).returncode
        if done:
            raise SystemExit(done)
    if not words.no_page:
        from page import write_page

        write_page(words.folder)


def commands(
    folder: Path, seeds: Iterable[int], options: Sequence[str], settings: Sequence[str]
) -> Iterator[list[str]]:
    """The runs, by the words after ``ctkit``: the positive control, the first seed, and then as many ``seeds``.

    So a study that is stopped early has its positive control, and as many seeds everywhere but in its last runs.
    """
    untrained, apart = ("arm=untrained",), ("pretrain=one-per-volume", "arm=all")
    control, uniform = ("pretrain=uniform", "arm=all"), ("pretrain=uniform",)
    everything = untrained, uniform, apart
    for number, parts in ((1, (untrained, control)), (1, (uniform, apart)), *((more, everything) for more in seeds)):
        for redundancy in REDUNDANCIES:
            density = (f"dataset.slices={SLICES * redundancy}", f"dataset.slice_spacing={SPACING / redundancy:.12g}")
            given = [word for value in (f"run.seeds={number}", *density, *settings) for word in ("--set", value)]
            run = ["run", str(FILE), "--out", str(folder / f"redundancy-{redundancy}"), "--quiet", *options, *given]
            for part in parts:
                yield [*run, "--until", "evaluate", *(word for only in part for word in ("--only", only))]


if __name__ == "__main__":
    main()
