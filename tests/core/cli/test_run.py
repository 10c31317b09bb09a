"""``ctkit run``: what lies in the run folder, what is made again, and what is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from ctkit.files import read_csv
from ctkit.stages.data import Data
from ctkit.stages.describe import describe

Run = Callable[..., tuple[int, str, str]]

TRAINING = """\
[[pretrain]]
use = "simclr"
backbone = "resnet18"
size = 16
batch = 4
steps = 1
[[task]]
use = "phantom-regions"
train = 2
val = 1
test = 1
size = 32
protocol = { use = "knn", size = 32 }
"""


def test_a_run_ends_with_a_report_and_a_second_one_has_nothing_to_do(folder: Path, command: Run) -> None:
    code, out, _ = command("run", "p.toml")
    assert code == 0
    assert "hash6: keeps" in out
    assert (folder / "runs" / "small" / "report.html").is_file()
    code, out, _ = command("run", "p.toml")
    assert code == 0
    assert "nothing to do" in out


def test_every_file_has_the_columns_of_the_contract(folder: Path, command: Run) -> None:
    command("run", "p.toml")
    run = folder / "runs" / "small"
    header = {path: path.read_text().splitlines()[0] for path in run.rglob("*.csv")}
    selection = "slice,volume,source,index,kept,represented_by,distance"
    assert header == {
        run / "skipped.csv": "source,reason",
        run / "volumes.csv": "volume,patient,slices,rows,columns,spacing_x,spacing_y,spacing_z,kernel,thickness,notes",
        run / "arms" / "all" / "selection.csv": selection,
        run / "arms" / "hash6" / "selection.csv": selection,
        run / "arms" / "hash6" / "curve.csv": "at,kept,share",
        run / "arms" / "random-like-hash6" / "draw-42" / "selection.csv": selection,
    }


def test_a_selection_lists_every_slice_in_order(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    rows = read_csv(folder / "runs" / "small" / "arms" / "hash6" / "selection.csv")
    assert [int(row["slice"]) for row in rows] == list(range(24))
    assert [int(row["index"]) for row in rows] == [*range(12), *range(12)]
    assert {row["kept"] for row in rows} == {"true", "false"}
    for row in rows:
        if row["kept"] == "false":
            stand_in = rows[int(row["represented_by"])]
            assert stand_in["kept"] == "true"
            assert stand_in["volume"] == row["volume"]
            assert 0 <= float(row["distance"]) <= 6


def test_a_random_arm_is_as_large_as_the_one_it_is_compared_with(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select", "--set", "run.seeds=2")
    arms = folder / "runs" / "small" / "arms"
    kept = {
        path.parent.name: {row["slice"] for row in read_csv(path) if row["kept"] == "true"}
        for path in arms.rglob("selection.csv")
    }
    assert len(kept["draw-42"]) == len(kept["draw-43"]) == len(kept["hash6"])
    assert kept["draw-42"] != kept["draw-43"]


def test_a_run_beside_a_gpu_that_torch_cannot_use_says_so_and_computes_on_the_cpu(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctkit.compute.devices.cuda_devices", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (folder / "p.toml").write_text((folder / "p.toml").read_text() + '[[reduce]]\nuse = "ssim"\nthreshold = 0.1\n')
    code, out, _ = command("run", "p.toml", "--until", "select")
    assert code == 0
    assert out.count("this run computes on the CPU: there is a GPU but this torch cannot use it") == 1
    facts = json.loads((folder / "runs" / "small" / "run.json").read_text())
    assert facts["device"] == "cpu"
    assert any(note["text"].startswith("this run computes on the CPU") for note in facts["notes"])


def test_another_threshold_decodes_nothing(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    command("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    stages = json.loads((folder / "runs" / "small" / "run.json").read_text())["stages"]
    done = {(stage["stage"], stage["item"]) for stage in stages if not stage["cached"]}
    assert done == {("select", "hash6"), ("select", "random-like-hash6/draw-42")}


def test_a_dry_run_says_what_there_is_and_makes_nothing(folder: Path, command: Run) -> None:
    code, out, _ = command("run", "p.toml", "--dry-run")
    assert code == 0
    assert "scan" in out
    assert not (folder / "runs").exists()
    command("run", "p.toml", "--until", "select")
    _, out, _ = command("run", "p.toml", "--dry-run")
    assert "24 slices" in out
    assert "to do" not in out


def test_a_report_is_never_that_of_an_earlier_pipeline(folder: Path, command: Run) -> None:
    page = folder / "runs" / "small" / "report.html"
    for threshold in (6, 0, 6):  # the last time everything is cached
        command("run", "p.toml", "--set", f"reduce.hash6.threshold={threshold}")
        assert f"threshold = {threshold} " in page.read_text()


def test_results_outlive_the_cache_until_their_pipeline_changes(folder: Path, command: Run) -> None:
    (folder / "p.toml").write_text((folder / "p.toml").read_text() + TRAINING)
    assert command("run", "p.toml")[0] == 0
    run = folder / "runs" / "small"
    trained = sorted(run.rglob("backbone.safetensors")) + sorted(run.rglob("repeat-*.csv"))
    assert len(trained) == 6
    shutil.rmtree(run.parent / ".cache" / "pretrain")
    shutil.rmtree(run.parent / ".cache" / "evaluate")
    command("run", "p.toml", "--until", "select")
    assert all(path.exists() for path in trained)
    command("run", "p.toml", "--until", "select", "--set", "pretrain.simclr.steps=2")
    assert not any(path.exists() for path in trained)


def test_pictures_go_when_the_file_asks_for_none(folder: Path, command: Run) -> None:
    run = folder / "runs" / "small"
    command("run", "p.toml")
    assert "data:image" in (run / "report.html").read_text()
    command("run", "p.toml", "--set", "report.images=false")
    assert "data:image/jpeg" not in (run / "report.html").read_text()
    assert not list(run.rglob("pictures.npz"))


def test_all_arms_name_volumes_alike_when_the_cache_was_lost(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    shutil.rmtree(folder / "runs" / ".cache")  # and with it the salt of the names
    command("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    tables = (folder / "runs" / "small" / "arms").rglob("selection.csv")
    assert len({tuple(sorted({row["volume"] for row in read_csv(table)})) for table in tables}) == 1


def test_pictures_that_could_not_all_be_made_are_made_again(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = folder / "runs" / "small" / "arms" / "hash6" / "pictures.npz"
    with monkeypatch.context() as patch:
        patch.setattr("ctkit.stages.pictures.images_of", lambda *_: {})
        assert command("run", "p.toml")[0] == 0
    with np.load(shown) as black:
        assert not black["kept"].any()
    command("run", "p.toml")
    with np.load(shown) as pictures:
        assert pictures["kept"].any()


def test_pictures_that_fail_leave_a_report_and_say_so(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no picture today")

    monkeypatch.setattr("ctkit.stages.pictures.draw", fail)
    for _ in range(2):
        code, out, errors = command("run", "p.toml")
        assert code == 1
        assert "no picture today" in errors
        assert "Traceback" not in errors
        assert "failed in part; report: " in out, "also where all the rest is there already"
    assert "ValueError: no picture today" in command("run", "p.toml", "--debug")[2].partition("Traceback")[2]
    assert (folder / "runs" / "small" / "report.html").exists()


def test_slices_that_cannot_be_read_are_counted(folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*arguments: Any) -> Data:
        data = describe(*arguments)
        return replace(data, readings=[replace(reading, skipped=((3, "noise"),)) for reading in data.readings])

    monkeypatch.setattr("ctkit.runner.order.describe", noisy)
    (folder / "p.toml").write_text((folder / "p.toml").read_text().replace("patients = 2", "patients = 1"))
    _, out, _ = command("run", "p.toml", "--until", "describe")
    assert "1 volume of 1 patient, 12 slices\n" in out
    assert "1 slice of 1 volume cannot be read, see skipped.csv\n" in out


def test_an_arm_that_left_the_file_leaves_the_run_folder(folder: Path, command: Run) -> None:
    command("run", "p.toml", "--until", "select")
    (folder / "p.toml").write_text((folder / "p.toml").read_text().split("[[reduce]]\nid")[0])
    command("run", "p.toml", "--until", "select")
    assert [path.name for path in (folder / "runs" / "small" / "arms").iterdir()] == ["all"]


def test_an_empty_folder_is_said_to_be_empty_before_anything_is_started(folder: Path, command: Run) -> None:
    (folder / "scans").mkdir()
    (folder / "p.toml").write_text('[run]\nname="x"\n[dataset]\nuse="dicom"\nroot="scans"\n[[reduce]]\nuse="all"\n')
    code, _, err = command("run", "p.toml")
    assert code == 2
    assert f"data set 'dicom': {folder / 'scans'} is empty" in err
    assert not (folder / "runs").exists()


def test_a_folder_without_a_ct_says_what_it_found(folder: Path, command: Run) -> None:
    (folder / "scans").mkdir()
    (folder / "scans" / "notes.txt").write_text("no scan")
    (folder / "p.toml").write_text('[run]\nname="x"\n[dataset]\nuse="dicom"\nroot="scans"\n[[reduce]]\nuse="all"\n')
    code, _, err = command("run", "p.toml")
    assert code == 1
    assert "there is no CT volume among 1 files" in err


def test_two_runs_into_one_folder_at_once_are_refused(folder: Path, command: Run) -> None:
    run = folder / "runs" / "small"
    run.mkdir(parents=True)
    with FileLock(run / ".lock"):
        code, _, err = command("run", "p.toml")
    assert code == 1
    assert "another process is running in" in err
