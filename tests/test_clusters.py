"""The Slurm scripts, as far as one machine can try them: Slurm's commands are stand-ins, everything else is real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SLURM = Path(__file__).resolve().parent.parent / "examples" / "slurm"
SCRIPTS = sorted(SLURM.glob("*.sbatch"))
PIPELINE = """
[run]
name = "small"
[dataset]
use = "phantom"
patients = 2
slices = 8
size = 32
matrix = 32
[[reduce]]
use = "hash"
[[pretrain]]
use = "simclr"
"""
OPTIONS = {
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "gres", "gpus-per-node", "mem", "mem-per-cpu"),
    *("time", "signal", "requeue", "open-mode"),
}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Slurm runs on Linux")


def stand_in(folder: Path, name: str, body: str) -> None:
    """Put a command into the folder ``commands``."""
    path = folder / "commands" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def submit(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a batch script as Slurm does on its first node, in ``folder``."""
    (folder / "study.toml").write_text(PIPELINE)
    path = os.pathsep.join([str(folder / "commands"), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(SLURM / script), "study.toml"]
    surroundings = {**os.environ, "PATH": path, **environment}
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_bash_and_asks_slurm_in_its_words(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert {re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line)[1] for line in asked} <= OPTIONS
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(lines.index(line) < first_command for line in asked), "Slurm reads no further than the first command"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_without_a_pipeline_file_says_how_it_is_called(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"sbatch {script.name} study.toml" in done.stderr


def test_slices_are_chosen_and_stored_by_a_dask_cluster_that_the_script_starts(tmp_path: Path) -> None:
    stand_in(tmp_path, "srun", 'echo "$@" > asked; exec "$@"')
    done = submit("select.sbatch", tmp_path, SLURM_MEM_PER_CPU="2048", CTKIT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "runs" / "small" / "run.json").read_text())
    assert facts["state"] == "stopped at materialise"
    assert facts["pipeline"]["compute"]["backend"] == "dask"
    assert facts["pipeline"]["compute"]["scheduler"].startswith("tcp://")
    assert "--memory-limit 2048M" in (tmp_path / "asked").read_text()
    assert not list(tmp_path.glob(".dask-*"))


def test_a_scheduler_that_ends_at_once_ends_the_script_with_a_message(tmp_path: Path) -> None:
    stand_in(tmp_path, "srun", 'exec "$@"')
    stand_in(tmp_path, "dask", 'echo "no $1 today" >&2; exit 1')
    done = submit("select.sbatch", tmp_path)
    assert done.returncode == 1
    assert "no scheduler today" in done.stderr
    assert done.stderr.splitlines()[-1] == "select.sbatch: the Dask scheduler ended; what it said is above"
    assert not list(tmp_path.glob(".dask-*"))


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (130, True)])
def test_a_training_that_slurm_interrupts_queues_again(tmp_path: Path, code: int, again: bool) -> None:
    stand_in(tmp_path, "srun", f'echo "$@" > started; exit {code}')
    stand_in(tmp_path, "scontrol", 'echo "$@" > queued')
    done = submit("train.sbatch", tmp_path, SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="16")
    assert done.returncode == code
    assert (tmp_path / "started").read_text().split() == ["--cpus-per-task=16", "ctkit", "run", "study.toml"]
    assert (tmp_path / "queued").exists() == again
    if again:
        assert (tmp_path / "queued").read_text().split() == ["requeue", "7"]


def test_on_several_nodes_each_process_is_ctkits_way_into_a_cluster(tmp_path: Path) -> None:
    stand_in(tmp_path, "srun", 'echo "$@" > started; exit 3')
    assert submit("nodes.sbatch", tmp_path, SLURM_CPUS_PER_TASK="8").returncode == 3
    *options, python, flag, module, command, file = (tmp_path / "started").read_text().split()
    assert options == ["--kill-on-bad-exit=1", "--cpus-per-task=8"]
    assert (python, flag, command, file) == ("python", "-m", "run", "study.toml")
    assert find_spec(module) is not None


JOBQUEUE = """
class SLURMCluster:
    scheduler_address = "tcp://node:1"
    def __init__(self, *, cores, processes, memory, walltime): assert cores == processes
    def adapt(self, *, minimum, maximum): assert minimum <= maximum
    def __enter__(self): return self
    def __exit__(self, *error): pass
"""


def test_dask_jobqueue_is_given_what_it_takes_and_ctkit_its_address(tmp_path: Path) -> None:
    (tmp_path / "dask_jobqueue.py").write_text(JOBQUEUE)  # the signature is that of dask-jobqueue 0.9
    stand_in(tmp_path, "ctkit", 'echo "$@" > asked; exit 3')
    surroundings = {"PATH": f"{tmp_path / 'commands'}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(SLURM / "jobqueue.py"), "study.toml"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | surroundings, check=False)
    assert done.returncode == 3
    asked = (tmp_path / "asked").read_text()
    assert asked.split() == [
        *("run", "study.toml", "--until", "materialise"),
        *("--set", "compute.backend=dask", "--set", "compute.scheduler=tcp://node:1"),
    ]
