from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from ctkit.errors import StorageError
from ctkit_torch.checkpoints import Checkpoints


def test_the_newest_checkpoint_comes_back_and_one_more_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 100):
        checkpoints.save({"step": step, "weights": {"a": torch.full((2,), float(step))}}, step)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["step"] == 100
    assert torch.equal(newest["weights"]["a"], torch.tensor([100.0, 100.0]))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kept", [0, 10, 400], ids=lambda kept: f"{kept}-bytes")
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    kept: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save({"step": step}, step)
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:kept])
    assert checkpoints.newest() == {"step": 1}
    assert "a checkpoint is damaged and ignored" in caplog.text


def test_a_checkpoint_in_which_one_bit_changed_is_ignored(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save({"step": step, "weights": torch.full((500,), float(step))}, step)
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    data[data.index(torch.full((500,), 2.0).numpy().tobytes()) + 1000] ^= 1  # of the weights: torch would not notice
    newest.write_bytes(data)
    found = checkpoints.newest()
    assert found is not None
    assert found["step"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
@pytest.mark.parametrize("room", [100, 30_000, 1_000_000])
def test_a_full_disk_is_said_and_leaves_the_checkpoint_before(room: int, tmp_path: Path) -> None:
    import resource

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1}, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(StorageError, match="cannot write .*step-0000000002.ckpt"):
            checkpoints.save({"step": 2, "weights": torch.zeros(300_000)}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000001.ckpt"]
    assert checkpoints.newest() == {"step": 1}


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).newest() is None


def test_removing_takes_half_written_ones_along_and_nothing_else(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({}, 1)
    (tmp_path / ".step-0000000002.ckpt.17-abcd.part").touch()
    (tmp_path / "backbone.safetensors").touch()
    checkpoints.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.safetensors"]
