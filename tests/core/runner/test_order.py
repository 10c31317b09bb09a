"""The end of a run: what plugins make of it, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.console import Console
from ctkit.errors import DataError
from ctkit.hookspecs import RunInfo, hookimpl
from ctkit.runner.order import outline
from ctkit.storage import RunFolder
from ctkit.storage.records import VolumeRow, read_rows

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def having() -> Iterator[Callable[..., None]]:
    """Give this process's registry a further module with hooks."""

    def _having(**hooks: Callable[..., Any]) -> None:
        module = ModuleType("stranger")
        for name, function in hooks.items():
            setattr(module, name, hookimpl(function))
        plugins.load().manager.register(module, "theirs:page")

    yield _having
    if plugins.load().manager.has_plugin("theirs:page"):
        plugins.load().manager.unregister(name="theirs:page")


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "small" / "run.json").read_text())
    return found


def test_outputs_are_made_of_a_whole_run_before_trackers_hear_of_its_end(
    folder: Path, command: Run, having: Callable[..., None]
) -> None:
    told: list[tuple[str, Any, Any]] = []

    def note(run: RunInfo, what: str) -> None:
        known = json.loads((run.folder / "run.json").read_text())
        told.append((what, known["state"], known["finished"] is not None))

    def made(run: RunInfo) -> None:
        note(run, "output")

    def ended(run: RunInfo) -> None:
        note(run, "end")

    having(ctkit_run_outputs=made, ctkit_run_finished=ended)
    assert command("run", "p.toml", "--until", "select")[0] == 0
    assert told == [("end", "stopped at select", True)]
    told.clear()
    assert command("run", "p.toml")[0] == 0
    assert told == [("output", "done", True), ("end", "done", True)]
    told.clear()
    assert "nothing to do" in command("run", "p.toml")[1]
    assert told == [("end", "done", True)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("score"), "plugin 'theirs:page' failed in ctkit_run_outputs: KeyError: 'score'"),
        (DataError("no slice shows anything"), "no slice shows anything"),
    ],
    ids=["a stranger's error", "one of ours"],
)
def test_an_output_that_fails_fails_the_run(
    folder: Path, command: Run, having: Callable[..., None], error: Exception, said: str
) -> None:
    def fail(run: RunInfo) -> None:
        raise error

    having(ctkit_run_outputs=fail)
    code, _, err = command("run", "p.toml")
    assert (code, err) == (1, f"ctkit: {said}\n")
    assert facts(folder)["state"] == "failed"
    assert facts(folder)["at"] == {"stage": "report", "item": ""}


def test_a_report_that_nobody_makes_anew_does_not_stay_for_another_choice(
    folder: Path, command: Run, having: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = folder / "runs" / "small" / "report.html"
    command("run", "p.toml", "--set", "reduce.hash6.threshold=3")
    assert page.exists()
    monkeypatch.setattr(plugins.Registry, "call", lambda *_, **__: [])  # another plugin's output, and no report
    assert f"done; results: {page.parent}\n" in command("run", "p.toml")[1]
    assert not page.exists()


WITHOUT = """
import atexit, sys
atexit.register(lambda: print("imported:", *sys.modules, file=sys.stderr))
from ctkit.cli import main
main(["run", "p.toml", *sys.argv[1:]])
"""


def test_a_run_without_reports_ends_as_well_and_imports_nothing_of_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    run = folder / "runs" / "small"
    assert start("--set", "reduce.hash6.threshold=3").returncode == 0
    page = run / "report.html"
    assert page.exists()
    monkeypatch.setenv(plugins.DISABLE, "ctkit-reports")
    done = start()
    assert done.returncode == 0, done.stderr
    assert f"done; results: {run}\n" in done.stdout
    imported = {name.partition(".")[0] for name in done.stderr.rpartition("imported:")[2].split()}
    assert imported & {"jinja2", "matplotlib", "ctkit_reports"} == set()
    assert facts(folder)["state"] == "done"
    assert "report" not in {stage["stage"] for stage in facts(folder)["stages"]}
    assert not page.exists(), "it would be that of an earlier pipeline"
    monkeypatch.delenv(plugins.DISABLE)
    assert f"done; report: {page}\n" in start().stdout


def left(run: RunFolder) -> set[Path]:
    """What lies in a run folder, but for its lock and for what trackers keep there."""
    files = {path for path in run.path.rglob("*") if path.is_file() and path != run.lock}
    return {path for path in files if "tensorboard" not in path.parts}


def test_a_run_leaves_exactly_the_files_that_its_folder_lists(tmp_path: Path, toys: None) -> None:
    document = {
        "run": {"name": "x", "seeds": 2, "out": str(tmp_path / "runs" / "x")},
        "compute": {"workers": 1, "device": "cpu"},
        "dataset": {"use": "phantom", "patients": 2, "slices": 8, "matrix": 32, "size": 16},
        "reduce": [
            {"use": "all"},
            {"use": "hash", "id": "hash"},
            {"use": "random", "id": "random", "keep": {"like": "hash"}},
        ],
        "pretrain": [{"use": "mean"}],
        "baseline": [{"use": "mean", "id": "raw"}],
        "task": [{"use": "coins", "protocol": "guess", "repeats": 2, "labels": [0.5, 1.0]}],
    }
    registry, console = plugins.load(), Console(quiet=True)
    run = runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, console)
    about = {run.provenance, run.log, run.volumes, run.skipped, run.report}
    listed = run.files(outline(pipeline_file.resolve(document, registry, tmp_path)))
    on_request = {run.arm(arm).plot for arm in ("all", "hash", "random")}
    on_request |= {run.arm(arm).explanation for arm in ("all", "hash", "random")}
    on_request |= {run.arm(arm).curve for arm in ("all", "random")}
    assert left(run) == (listed | about) - on_request
    run.arm("hash").explanation.write_text("")
    document |= {"report": {"images": False}, "task": [], "baseline": [], "pretrain": []}
    runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, console)
    fewer = run.files(outline(pipeline_file.resolve(document, registry, tmp_path)))
    assert left(run) == (fewer | about) - on_request
    assert {path.name for path in listed - fewer} >= {"explain.html", "pictures.npz", "mistakes.npz", "results.csv"}


def test_notes_from_pixels_stand_beside_those_from_headers_also_when_nothing_is_read_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (12, 11, 5)).astype(np.float32)
    values[0, :2, 0] = -3.4e38
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    (tmp_path / "data").mkdir()
    nibabel.save(image, tmp_path / "data" / "a.nii.gz")
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
        "dataset": {"use": "nifti", "root": str(tmp_path / "data")},
        "reduce": [{"use": "all"}],
    }
    registry = plugins.load()
    for _ in range(2):
        found = runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, Console(quiet=True), "select")
        (volume,) = read_rows(found.volumes, VolumeRow)
        assert volume.notes == (
            "its header has no orientation: assumed as in ANALYZE, first axis to the left",
            "NaN voxels, replaced by air: 2",
        )


def test_volumes_without_hounsfield_units_are_named_whatever_their_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hounsfield = np.random.default_rng(0).integers(-1000, 1000, (12, 11, 5))
    (tmp_path / "data").mkdir()
    for name, values in (("hu", hounsfield.astype(np.int16)), ("offset", (hounsfield + 1024).astype(np.uint16))):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "data" / f"{name}.nii.gz")
    document = {
        "run": {"name": "x", "out": str(tmp_path / "run")},
        "dataset": {"use": "nifti", "root": str(tmp_path / "data")},
        "reduce": [{"use": "all"}],
    }
    registry = plugins.load()
    found = runner.run(pipeline_file.resolve(document, registry, tmp_path), registry, Console(), "select")
    without = ["values are not in Hounsfield units" in volume.notes for volume in read_rows(found.volumes, VolumeRow)]
    assert without == [False, True]
    assert "1 volume without Hounsfield units: not windowed, see volumes.csv\n" in capsys.readouterr().out
