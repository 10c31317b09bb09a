"""Everything that is to be measured on a GPU, in the minutes for which one is there, piece by piece.

    python benchmarks/gpu.py --minutes 9 --out DIR
    python benchmarks/gpu.py --minutes 9 --out DIR --device cpu --tiny

The second command is a rehearsal: all pieces in miniature on the CPU, whose figures say nothing about a GPU.

Each piece runs in a process of its own, for a share of the time that is left, so that a crash, a hang or a slow machine
costs that piece. Its figures lie in ``DIR/PIECE.json`` from the moment they are found, and in ``DIR/table.md`` once it
has ended. Whatever is killed, these files are whole.

This script needs the standard library alone. ``--wheels FOLDER`` installs wheels without a network, for this run only
(``make wheels`` packs such a folder). ctkit must be installed, or be among them: its plugins are found by the metadata
of a distribution. First it says what the machine has, and what is missing.

A new piece is a function in ``gpu_pieces.py`` and a line in ``PIECES``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import Figure, save, save_text, spoken

HERE = Path(__file__).resolve().parent
RESERVE = 8.0  #: seconds for the end: the last piece is stopped, the table is written
LEAST = 3.0  #: seconds; a piece that would get less is not started
LOOKING = 90.0  #: seconds that looking at the machine may take: a first import of torch is slow


@dataclass(frozen=True)
class Piece:
    """One piece: a function of ``gpu_pieces.py``."""

    name: str
    share: float  #: of the time, in relation to the other pieces: the seconds that it needs on a fast GPU
    what: str


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    state: str  #: done, failed, cut off, not started
    reason: str | None  #: where it is not done


#: In the order in which they run: what is worth most comes first.
PIECES = (
    Piece("tests", 70, "pytest -m gpu"),
    Piece("swav", 90, "pre-training with SwAV, the paper's main method, and lightly's plain way"),
    Piece("simclr", 80, "pre-training with SimCLR, and lightly's plain way"),
    Piece("reducers", 45, "embedding, SSIM and mutual information on the GPU against one CPU core"),
    Piece("evaluation", 45, "features and fine-tuning on the GPU against one CPU core"),
    Piece("acceleration", 100, "memory layout, compilation and CUDA graphs"),
    Piece("moco", 50, "pre-training with MoCo v2"),
    Piece("byol", 50, "pre-training with BYOL"),
    Piece("study", 120, "the study of redundancy: its positive control, and as much of the rest as there is time for"),
)


def main() -> int:
    """Run the pieces; 0 if all have ended by themselves, 1 if one has not, 2 where there is nothing to run them on."""
    begin = time.monotonic()
    words = parsed()
    out: Path = words.out
    out.mkdir(parents=True, exist_ok=True)
    if earlier := [path.name for path in out.iterdir() if path.suffix in (".json", ".md")]:
        print(f"{out} holds the figures of an earlier run ({earlier[0]}); name another folder", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ctkit-gpu-") as scratch:
        run = Run(words.device, words.tiny, out, Path(scratch), begin + 60 * words.minutes - RESERVE)
        try:
            if words.wheels:
                run.install(words.wheels)
            run.look(words.wheels)
            if run.unusable:
                print(f"nothing is measured: {run.unusable}", file=sys.stderr)
                return 2
            for number, piece in enumerate(words.pieces):
                shares = [later.share for later in words.pieces[number:]]
                run.do(piece, shares[0] / sum(shares))
        except KeyboardInterrupt:
            return 130
        finally:
            run.write_table()
    print(f"\n{out / 'table.md'}: {time.monotonic() - begin:.0f} s")
    return 0 if all(document["state"] == "done" for document in run.documents) else 1


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="that everything together may take")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures, without those of another run")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks on few slices, to rehearse")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install for this run")
    names = {piece.name: piece for piece in PIECES}
    parser.add_argument("--pieces", nargs="+", choices=names, default=list(names), help="all by default")
    words = parser.parse_args()
    words.pieces = [names[name] for name in words.pieces]
    if words.minutes * 60 <= RESERVE + LEAST:
        parser.error(f"--minutes must be more than {(RESERVE + LEAST) / 60:.2f} but is {words.minutes:g}")
    return words


class Run:
    """What the pieces share, and what came of them."""

    def __init__(self, device: str, tiny: bool, out: Path, scratch: Path, deadline: float) -> None:
        self.device, self.tiny, self.out, self.scratch, self.deadline = device, tiny, out, scratch, deadline
        self.machine: dict[str, Any] = {}
        self.documents: list[dict[str, Any]] = []
        # One thread for what is measured on the CPU; what torch compiles is compiled in this run.
        self.environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
            "TRITON_CACHE_DIR": str(scratch / "triton"),
            "TMPDIR": str(scratch),
        }

    def install(self, wheels: Path) -> None:
        """Install the wheels of a folder into one of this run, before the machine's own packages."""
        site = self.scratch / "site"
        pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        files = sorted(wheels.glob("*.whl"))
        subprocess.run([*pip, "--quiet", "--target", str(site), *map(str, files)], check=True)
        earlier = os.environ.get("PYTHONPATH")
        self.environment["PYTHONPATH"] = os.pathsep.join([str(site), *([earlier] if earlier else [])])

    def look(self, wheels: Path | None) -> None:
        """Find out what the machine has, and say what is missing."""
        path = self.out / "machine.json"
        command = ["machine", "--file", str(path), *(["--wheels", str(wheels)] if wheels else [])]
        outcome = self._run(command, min(LOOKING, self.deadline - time.monotonic()))
        self.machine = read(path) or {
            "missing": [f"what the machine has: the look at it is {outcome.state}: {outcome.reason}"]
        }
        for name, value in facts_of(self.machine):
            print(f"{name:<14} {value}")
        print("missing        " + ("\n               ".join(self.machine["missing"]) or "nothing"), flush=True)

    @property
    def unusable(self) -> str | None:
        """Why no piece can run at all."""
        looked = "machine" in self.machine
        if self.device == "cuda" and looked and not self.machine.get("gpu"):
            return "torch sees no GPU; --device cpu --tiny rehearses"
        return None

    def do(self, piece: Piece, share: float) -> None:
        """Run a piece for at most a share of the time that is left, and note how it ended."""
        path, begin = self.out / f"{piece.name}.json", time.monotonic()
        limit = (self.deadline - begin) * share
        document = {
            "piece": piece.name,
            "what": piece.what,
            "state": "running",
            "reason": None,
            "device": self.device,
            "tiny": self.tiny,
            "limit_s": round(limit, 1),
            "seconds": None,
            "machine": self.machine,
            "settings": {"seed": 0},
            "figures": [],
        }
        print(f"\n{piece.name}: {piece.what}, at most {limit:.0f} s", flush=True)
        save(path, document)
        outcome = Outcome("cut off", "it was interrupted")
        try:
            if limit < LEAST:
                outcome = Outcome("not started", "no time was left")
            else:
                words = [piece.name, "--device", self.device, "--seconds", f"{limit:.1f}", "--file", str(path)]
                outcome = self._run([*words, *(["--tiny"] if self.tiny else [])], limit)
        finally:
            document = read(path) or document
            document |= {**asdict(outcome), "seconds": round(time.monotonic() - begin, 1)}
            save(path, document)
            self.documents.append(document)
            self.write_table()
        if outcome.reason:
            print(f"  {outcome.state}: {outcome.reason}", flush=True)

    def _run(self, words: Sequence[str], seconds: float) -> Outcome:
        """Run a piece's process for so many seconds at most."""
        log = self.scratch / "log"
        command = [sys.executable, "-W", "ignore", str(HERE / "gpu_pieces.py"), *words]
        with log.open("wb") as errors:
            process = subprocess.Popen(command, env=self.environment, stderr=errors, start_new_session=True)
            try:
                code = process.wait(max(seconds, 0.1))
            except subprocess.TimeoutExpired:
                return Outcome("cut off", f"it took longer than {seconds:.0f} s")
            finally:
                end(process)
        if code == 0:
            return Outcome("done", None)
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        print("\n".join(lines[-15:]), file=sys.stderr)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Outcome("failed", f"{how}: {lines[-1].strip()[:300]}" if lines else how)

    def write_table(self) -> None:
        """Write the table of what has ended so far."""
        save_text(self.out / "table.md", table(self.machine, self.documents, self.device, self.tiny))


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a piece's process and all that it started; one that hangs in a driver is left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        print(f"  process {process.pid} cannot be ended", file=sys.stderr)


def read(path: Path) -> dict[str, Any] | None:
    """A JSON file; None where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def facts_of(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader of the figures must know of the machine."""
    names = ("machine", "gpu", "driver", "cpu", "memory", "python", "torch", "cuda", "cudnn", "ctkit", "commit", "data")
    return [(name, str(machine[name])) for name in names if machine.get(name) is not None]


def table(machine: Mapping[str, Any], documents: Iterable[Mapping[str, Any]], device: str, tiny: bool) -> str:
    """All figures in Markdown."""
    lines = [f"# Figures of {machine.get('machine', 'an unknown machine')}", ""]
    if device == "cpu" or tiny:
        what = " on the CPU" if device == "cpu" else ""
        lines += [f"**A rehearsal{what}{', in miniature' if tiny else ''}: no figure says how fast a GPU is.**", ""]
    lines += [f"- {name}: {value}" for name, value in facts_of(machine)]
    lines += [f"- missing: {what}" for what in machine.get("missing", [])]
    lines += ["- seed: 0", "", "| piece | figure | value | unit | note |", "|---|---|---:|---|---|"]
    for document in documents:
        for figure in (Figure(**each) for each in document["figures"]):
            value = "" if figure.value is None else spoken(figure.value)
            lines.append(row(document["piece"], figure.name, value, figure.unit, figure.note))
        note = f"{document['state']}: {document['reason']}" if document["reason"] else document["state"]
        took = "" if document["seconds"] is None else spoken(document["seconds"])
        lines.append(row(document["piece"], "whole piece", took, "s" if took else "", note))
    lines += ["", *settings_of(documents)]
    return "\n".join(lines).rstrip() + "\n"


def settings_of(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each piece did, a line for each."""
    return [
        f"- {document['piece']}: {document['what']}"
        + "".join(f"; {name}: {value}" for name, value in document["settings"].items() if name != "seed")
        for document in documents
    ]


def row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
