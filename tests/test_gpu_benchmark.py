"""The benchmark for the day a GPU is there: what a crash, a hang or a kill leaves, and what it must bring along.

Most tests replace the pieces by small scripts, so that only ``gpu.py`` itself is tested; the rehearsal runs them.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PIECES = ("tests", "swav", "simclr", "reducers", "evaluation", "acceleration", "moco", "byol", "study")

SCRIPT = """\
import json, os, sys, time
from pathlib import Path
from figures import save
from processes import end_with_parent

end_with_parent()
piece, path = sys.argv[1], Path(sys.argv[sys.argv.index("--file") + 1])
if piece == "machine":
    save(path, {"machine": "a | b", "torch": "9.9", "missing": ["a driver"], "gpu": os.environ.get("A_GPU")})
    sys.exit()
document = json.loads(path.read_text())
document["figures"].append({"name": "rate", "value": 12.5, "unit": "slices/s", "note": ""})
save(path, document)
if piece == "swav":
    (path.parent / "swav.pid").write_text(str(os.getpid()))
    time.sleep(3600)
if piece == "simclr":
    os.abort()
if piece == "reducers":
    raise ValueError("no reducers today")
"""


@pytest.fixture
def benchmark(repository: Path, tmp_path: Path) -> Path:
    """``gpu.py`` beside pieces that take no time, hang (swav), crash (simclr) or fail (reducers)."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("gpu.py", "figures.py", "processes.py"):
        shutil.copy(repository / "benchmarks" / name, folder)
    (folder / "gpu_pieces.py").write_text(SCRIPT)
    return folder / "gpu.py"


def command(script: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, str(script), "--out", str(out), "--device", "cpu", "--tiny", *words]


def run(script: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(script, out, *words), capture_output=True, text=True, check=False)


def states(out: Path) -> dict[str, str]:
    documents = [json.loads(path.read_text()) for path in out.glob("*.json") if path.name != "machine.json"]
    return {document["piece"]: document["state"] for document in documents}


def test_a_piece_that_hangs_or_crashes_costs_itself_alone(benchmark: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = benchmark.read_text()  # little time for what hangs, and much for the rest
    assert '"swav", 90' in text
    benchmark.write_text(text.replace('"swav", 90', '"swav", 5'))
    done = run(benchmark, out, "--minutes", "4", "--pieces", "tests", "swav", "simclr", "reducers", "moco")
    assert done.returncode == 1
    assert states(out) == {
        "tests": "done",
        "swav": "cut off",
        "simclr": "failed",
        "reducers": "failed",
        "moco": "done",
    }
    assert all(json.loads((out / f"{name}.json").read_text())["figures"] for name in ("swav", "simclr", "reducers"))
    table = (out / "table.md").read_text()
    assert "| swav | rate | 12.5 | slices/s |  |" in table
    assert "cut off: it took longer than" in table
    assert "failed: signal SIGABRT" in table
    assert "ValueError: no reducers today" in table
    assert not psutil.pid_exists(int((out / "swav.pid").read_text()))


def test_the_table_names_the_machine_and_says_what_is_missing_and_that_it_is_a_rehearsal(
    benchmark: Path, tmp_path: Path
) -> None:
    done = run(benchmark, tmp_path / "out", "--pieces", "tests")
    assert done.returncode == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.startswith("# Figures of a | b\n\n**A rehearsal on the CPU, in miniature: ")
    assert "- torch: 9.9\n" in table
    assert "- missing: a driver\n" in table
    assert "missing        a driver" in done.stdout


def test_killed_in_the_middle_it_leaves_whole_files_and_no_process(benchmark: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command(benchmark, out, "--pieces", "tests", "swav"), stdout=subprocess.DEVNULL) as process:
        while not (out / "swav.pid").exists() or not (out / "swav.pid").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        child = psutil.Process(int((out / "swav.pid").read_text()))
        os.kill(process.pid, signal.SIGKILL)
    child.wait(60)
    assert states(out) == {"tests": "done", "swav": "running"}
    assert "| tests | rate | 12.5 | slices/s |  |" in (out / "table.md").read_text()


def test_sigterm_ends_the_piece_and_writes_the_table(benchmark: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command(benchmark, out, "--pieces", "swav"), stdout=subprocess.DEVNULL) as process:
        while not (out / "swav.pid").exists() or not (out / "swav.pid").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.terminate()
    assert process.returncode == 130
    assert states(out) == {"swav": "cut off"}
    assert "cut off: it was interrupted" in (out / "table.md").read_text()
    assert not psutil.pid_exists(int((out / "swav.pid").read_text()))


def test_without_a_gpu_nothing_is_measured_unless_it_is_a_rehearsal(benchmark: Path, tmp_path: Path) -> None:
    done = run(benchmark, tmp_path / "out", "--device", "cuda")
    assert done.returncode == 2
    assert "torch sees no GPU" in done.stderr
    assert states(tmp_path / "out") == {}


def test_figures_of_an_earlier_run_stay(benchmark: Path, tmp_path: Path) -> None:
    (tmp_path / "tests.json").write_text("{}")
    done = run(benchmark, tmp_path)
    assert done.returncode == 2
    assert "holds the figures of an earlier run" in done.stderr
    assert (tmp_path / "tests.json").read_text() == "{}"


def test_what_benchmarks_import_of_ctkit_is_there(repository: Path) -> None:
    """Nothing else runs them in continuous integration, and they look behind the public names."""
    imported = {
        (node.module, alias.name)
        for path in (repository / "benchmarks").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ctkit")
        for alias in node.names
    }
    lacking = [
        (module, name)
        for module, name in imported
        if not hasattr(importlib.import_module(module), name) and find_spec(f"{module}.{name}") is None
    ]
    assert imported
    assert lacking == []


def test_what_a_bare_machine_lacks_is_packed(repository: Path) -> None:
    """Walks the requirements of ctkit for Python 3.12, up to what the machine has."""
    lines = (repository / "benchmarks" / "gpu_wheels.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    packed = {canonicalize_name(name) for name in pins}
    settled = {
        canonicalize_name(name)
        for line in lines
        if line.startswith(("# there:", "# left out:"))
        for name in line.partition(":")[2].split()
    }
    assert packed & settled == set()
    constraints = dict(line.split("==") for line in (repository / "constraints.txt").read_text().splitlines())
    assert {name: constraints[name] for name in pins} == pins
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"].get(extra, []) for extra in ("train", "dask", "gpu")]
    waiting = [*project["dependencies"], *(text for extra in extras for text in extra), "pytest", "hypothesis"]
    needed: set[str] = set()
    while waiting:
        need = Requirement(waiting.pop())
        name = canonicalize_name(need.name)
        there = {"python_version": "3.12", "python_full_version": "3.12.3", "extra": ""}
        if name in needed | settled or (need.marker and not need.marker.evaluate(there)):
            continue
        needed.add(name)
        waiting += requirements_of(name)
    assert needed - packed == set()
    assert packed - needed == set()


def requirements_of(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        assert name == "nvidia-ml-py"  # for GPUs alone, and it needs nothing
        return []


@pytest.mark.slow
def test_the_rehearsal_runs_every_piece(repository: Path, tmp_path: Path) -> None:
    done = run(repository / "benchmarks" / "gpu.py", tmp_path, "--minutes", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert states(tmp_path) == dict.fromkeys(PIECES, "done")
    figures = {
        (path.stem, figure["name"]): figure
        for path in tmp_path.glob("*.json")
        if path.stem in PIECES
        for figure in json.loads(path.read_text())["figures"]
    }
    for method in ("swav", "simclr", "moco", "byol"):
        for way in ("network", "on device", "ctkit", *(["plain"] if method in ("swav", "simclr") else [])):
            assert figures[method, way]["value"] > 0
            assert figures[method, way]["unit"] == "slices/s"
        assert 0 < figures[method, "arithmetic of the network / of matrices"]["value"] < 100
        assert 0 <= figures[method, "waiting for slices"]["value"] < 100
    assert figures["acceleration", "channels last, compiled"]["value"] > 0
    without = [name for (_, name), figure in figures.items() if "not applicable" in figure["note"]]
    assert len(without) == 7  # two with CUDA graphs, five ratios
    assert [figure for figure in figures.values() if figure["value"] is None and not figure["note"]] == []
    assert [figure for figure in figures.values() if "Error" in figure["note"]] == []
