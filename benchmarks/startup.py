"""How long ctkit takes to start, against ``import torch``: python benchmarks/startup.py [--write]"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

import performance_page as page

ROUNDS = 7
CTKIT = ("-c", "from ctkit.cli import main; main()")
COMMANDS = {
    "python": ("-c", ""),
    "import torch": ("-c", "import torch"),
    "ctkit --help": (*CTKIT, "--help"),
    "ctkit list-plugins": (*CTKIT, "list-plugins"),
}
LIMIT = 0.15  # of import torch


def seconds(arguments: tuple[str, ...]) -> float:
    """Wall time of a fresh Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the fastest of several rounds for each command; the first round warms the file cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the ratios into docs/performance.md")
    options = parser.parse_args()
    rounds = [{name: seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(ROUNDS)][1:]
    fastest = {name: min(taken[name] for taken in rounds) for name in COMMANDS}
    for name, taken in fastest.items():
        print(f"{name:20} {1000 * taken:7.0f} ms   {taken / fastest['import torch']:6.1%} of import torch")
    if options.write:
        torch = median(one["import torch"] for one in rounds)
        page.write("startup.py", [row(name, rounds, torch) for name in COMMANDS if name.startswith("ctkit")])


def row(name: str, rounds: list[dict[str, float]], torch: float) -> page.Row:
    """A command's row of the table."""
    ratios = [one[name] / one["import torch"] for one in rounds]
    return page.Row(f"`{name}`", f"`import torch`, {torch:.1f} s", f"{LIMIT} of it", page.ranged(ratios, 2))


if __name__ == "__main__":
    main()
