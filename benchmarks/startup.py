"""How long ctkit takes to start, against ``import torch``: python benchmarks/startup.py"""

from __future__ import annotations

import subprocess
import sys
import time

ROUNDS = 7
CTKIT = ("-c", "from ctkit.cli import main; main()")
COMMANDS = {
    "python": ("-c", ""),
    "import torch": ("-c", "import torch"),
    "ctkit --help": (*CTKIT, "--help"),
    "ctkit list-plugins": (*CTKIT, "list-plugins"),
}


def seconds(arguments: tuple[str, ...]) -> float:
    """Wall time of a fresh Python process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the fastest of several rounds for each command; the first round warms the file cache."""
    rounds = [{name: seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(ROUNDS)]
    fastest = {name: min(taken[name] for taken in rounds[1:]) for name in COMMANDS}
    for name, taken in fastest.items():
        print(f"{name:20} {1000 * taken:7.0f} ms   {taken / fastest['import torch']:6.1%} of import torch")


if __name__ == "__main__":
    main()
