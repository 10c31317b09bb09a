"""What Slurm and torchrun start, started here by hand: one process for each device, told by its environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.plugins.environments import SLURMEnvironment
from torch.distributed import HashStore

from ctkit.errors import DataError, TrainingError
from ctkit_models import cluster
from ctkit_models.cluster import FirstRank, first_rank, main
from ctkit_models.ranks import Rank

PIPELINE = """\
[run]
name = "two"
[compute]
device = "cpu"
workers = 1
[dataset]
use = "phantom"
patients = 2
slices = 8
matrix = 64
size = 32
[[reduce]]
use = "all"
[[reduce]]
use = "every-n"
n = 2
[[pretrain]]
use = "moco"
backbone = "resnet18"
size = 32
batch = 4
steps = 2
"""

SLURM = {
    "SLURM_JOB_ID": "1",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def started(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pretrain_facts(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("arms/*/moco/*/pretrain.json"))]


@pytest.mark.slow
def test_processes_that_slurm_starts_train_one_arm_after_the_other_together(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "p.toml").write_text(PIPELINE)
    processes = [
        started(
            tmp_path,
            {**SLURM, "MASTER_PORT": str(free_port), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            *("ctkit_models.cluster", "run", "p.toml"),
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[1] == ("", ""), "only the first process speaks"
    facts = pretrain_facts(tmp_path)
    assert [fact["steps"] for fact in facts] == [2, 2]
    assert all("2 processes shared the training" in str(fact["notes"]) for fact in facts)


@pytest.mark.slow
def test_torchrun_starts_them_too(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PIPELINE)
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    process = started(tmp_path, {}, *torchrun, "ctkit_models.cluster", "run", "p.toml")
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert all("2 processes shared the training" in str(fact["notes"]) for fact in pretrain_facts(tmp_path))


@pytest.mark.slow
def test_a_run_shares_its_trainings_among_the_devices_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PIPELINE)
    process = started(tmp_path, {}, "ctkit", "run", "p.toml", "--set", "compute.devices=2")
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert all("2 processes shared the training" in str(fact["notes"]) for fact in pretrain_facts(tmp_path))


@pytest.mark.parametrize(
    ("environment", "cores", "neighbours"),
    [
        ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "8"}, 8, 1),
        ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "8"}, 32, 4),
        ({"SLURM_NTASKS_PER_NODE": "1", "SLURM_CPUS_PER_TASK": "32", "LOCAL_WORLD_SIZE": "4"}, 32, 4),
        ({}, 64, 8),
    ],
)
def test_processes_share_cores_unless_slurm_gave_each_its_own(
    environment: dict[str, str], cores: int, neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_NTASKS_PER_NODE", "SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("loky.cpu_count", lambda: cores)
    assert cluster._neighbours(8) == neighbours


@pytest.mark.slow
def test_a_signal_to_all_processes_ends_a_shared_training_with_a_checkpoint(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "p.toml").write_text(PIPELINE.replace("steps = 2", "steps = 5000\nlog_every = 5000"))
    processes = [
        started(
            tmp_path,
            {**SLURM, "MASTER_PORT": str(free_port), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            *("ctkit_models.cluster", "run", "p.toml"),
        )
        for rank in (0, 1)
    ]
    first = processes[0].stdout
    assert first is not None
    while "/5000" not in first.readline():
        assert processes[0].poll() is None
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [143, 0]
    assert len(list(tmp_path.rglob("*.ckpt"))) == 1


class Silent(HashStore):
    """Nobody else is there."""

    def wait(self, *asked: Any) -> None:
        assert asked[0] == [], "waits for who does not answer"


def test_after_the_processes_lost_each_other_no_training_waits_for_them_again() -> None:
    first = FirstRank(Rank(), Silent())
    with pytest.raises(DataError), first.launch(print, "cpu"):
        raise DataError("all processes meet this one")
    with pytest.raises(RuntimeError, match="Timed out"), first.launch(print, "cpu"):
        raise RuntimeError("Timed out waiting 1800000ms for recv operation to complete")
    first.rank = Rank(0, 2)  # which would wait for the second
    with pytest.raises(TrainingError, match="lost each other before; the same command"), first.launch(print, "cpu"):
        pytest.fail("it began")
    first.dismiss()


def test_without_a_launcher_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SLURMEnvironment, "detect", staticmethod(lambda: False))
    with pytest.raises(SystemExit) as ended:
        main(["run", "p.toml"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "ctkit: found no launcher that starts a process for each device; start this with srun or torchrun\n"
    )
    assert first_rank() is None
