"""The command line: exit codes, and errors of one line that say what would be right."""

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

from ctkit import plugins
from ctkit.cli import main
from ctkit.files import read_csv
from ctkit.plugins import Entry
from ctkit.stages.describe import describe
from ctkit.stages.readings import Reading

Run = Callable[..., tuple[int, str, str]]

PIPELINE = """\
[run]
name = "small"
[compute]
workers = 1
[dataset]
use = "phantom"
patients = 2
slices = 12
size = 32
matrix = 32
[[reduce]]
use = "all"
[[reduce]]
id = "hash6"
use = "hash"
[[reduce]]
use = "random"
keep = { like = "hash6" }
"""


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small pipeline file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    (tmp_path / "p.toml").write_text(PIPELINE)
    return tmp_path


@pytest.fixture
def ctkit(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; return its exit code and what it printed."""

    def _ctkit(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(list(words))
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return _ctkit


def test_a_run_ends_with_a_report_and_a_second_one_has_nothing_to_do(folder: Path, ctkit: Run) -> None:
    code, out, _ = ctkit("run", "p.toml")
    assert code == 0
    assert "hash6: keeps" in out
    assert (folder / "runs" / "small" / "report.html").is_file()
    code, out, _ = ctkit("run", "p.toml")
    assert code == 0
    assert "nothing to do" in out


def test_every_file_has_the_columns_of_the_contract(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml")
    run = folder / "runs" / "small"
    header = {path: path.read_text().splitlines()[0] for path in run.rglob("*.csv")}
    selection = "slice,volume,source,index,kept,represented_by,distance"
    assert header == {
        run / "skipped.csv": "source,reason",
        run / "volumes.csv": "volume,patient,slices,rows,columns,spacing_x,spacing_y,spacing_z,notes",
        run / "arms" / "all" / "selection.csv": selection,
        run / "arms" / "hash6" / "selection.csv": selection,
        run / "arms" / "hash6" / "curve.csv": "at,kept,share",
        run / "arms" / "random-like-hash6" / "draw-42" / "selection.csv": selection,
    }


def test_a_selection_lists_every_slice_in_order(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
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


def test_a_random_arm_is_as_large_as_the_one_it_is_compared_with(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select", "--set", "run.seeds=2")
    arms = folder / "runs" / "small" / "arms"
    kept = {
        path.parent.name: {row["slice"] for row in read_csv(path) if row["kept"] == "true"}
        for path in arms.rglob("selection.csv")
    }
    assert len(kept["draw-42"]) == len(kept["draw-43"]) == len(kept["hash6"])
    assert kept["draw-42"] != kept["draw-43"]


def test_a_run_beside_a_gpu_that_torch_cannot_use_says_so_and_computes_on_the_cpu(
    folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctkit.devices.cuda_devices", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (folder / "p.toml").write_text(PIPELINE + '[[reduce]]\nuse = "ssim"\nthreshold = 0.1\n')
    code, out, _ = ctkit("run", "p.toml", "--until", "select")
    assert code == 0
    assert out.count("this run computes on the CPU: there is a GPU but this torch cannot use it") == 1
    facts = json.loads((folder / "runs" / "small" / "run.json").read_text())
    assert facts["device"] == "cpu"
    assert any(note.startswith("this run computes on the CPU") for note in facts["notes"])


def test_a_run_that_had_a_gpu_is_looked_at_where_there_is_none(
    folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctkit.devices.cuda_devices", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert ctkit("run", "p.toml", "--until", "select", "--set", "compute.device=cuda")[0] == 0
    monkeypatch.setattr("ctkit.devices.cuda_devices", lambda: 0)
    code, out, err = ctkit("curve", "runs/small", "hash6")
    assert (code, err) == (0, "")
    assert "kept" in out


def test_another_threshold_decodes_nothing(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
    ctkit("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    stages = json.loads((folder / "runs" / "small" / "run.json").read_text())["stages"]
    done = {(stage["stage"], stage["item"]) for stage in stages if not stage["cached"]}
    assert done == {("select", "hash6"), ("select", "random-like-hash6/draw-42")}


def test_a_dry_run_says_what_there_is_and_makes_nothing(folder: Path, ctkit: Run) -> None:
    code, out, _ = ctkit("run", "p.toml", "--dry-run")
    assert code == 0
    assert "scan" in out
    assert not (folder / "runs").exists()
    ctkit("run", "p.toml", "--until", "select")
    _, out, _ = ctkit("run", "p.toml", "--dry-run")
    assert "24 slices" in out
    assert "to do" not in out


def test_a_report_is_never_that_of_an_earlier_pipeline(folder: Path, ctkit: Run) -> None:
    page = folder / "runs" / "small" / "report.html"
    for threshold in (6, 0, 6):  # the last time everything is cached
        ctkit("run", "p.toml", "--set", f"reduce.hash6.threshold={threshold}")
        assert f"threshold = {threshold} " in page.read_text()


def test_results_outlive_the_cache_until_their_pipeline_changes(folder: Path, ctkit: Run) -> None:
    (folder / "p.toml").write_text(PIPELINE + TRAINING)
    assert ctkit("run", "p.toml")[0] == 0
    run = folder / "runs" / "small"
    trained = sorted(run.rglob("backbone.safetensors")) + sorted(run.rglob("repeat-*.csv"))
    assert len(trained) == 6
    shutil.rmtree(run.parent / ".cache" / "pretrain")
    shutil.rmtree(run.parent / ".cache" / "evaluate")
    ctkit("run", "p.toml", "--until", "select")
    assert all(path.exists() for path in trained)
    ctkit("run", "p.toml", "--until", "select", "--set", "pretrain.simclr.steps=2")
    assert not any(path.exists() for path in trained)


def test_pictures_go_when_the_file_asks_for_none(folder: Path, ctkit: Run) -> None:
    run = folder / "runs" / "small"
    ctkit("run", "p.toml")
    assert "data:image" in (run / "report.html").read_text()
    ctkit("run", "p.toml", "--set", "report.images=false")
    assert "data:image/jpeg" not in (run / "report.html").read_text()
    assert not list(run.rglob("pictures.npz"))


def test_all_arms_name_volumes_alike_when_the_cache_was_lost(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
    shutil.rmtree(folder / "runs" / ".cache")  # and with it the salt of the names
    ctkit("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    tables = (folder / "runs" / "small" / "arms").rglob("selection.csv")
    assert len({tuple(sorted({row["volume"] for row in read_csv(table)})) for table in tables}) == 1


def test_pictures_that_could_not_all_be_made_are_made_again(
    folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = folder / "runs" / "small" / "arms" / "hash6" / "pictures.npz"
    with monkeypatch.context() as patch:
        patch.setattr("ctkit.stages.pictures.images_of", lambda *_: {})
        assert ctkit("run", "p.toml")[0] == 0
    with np.load(shown) as black:
        assert not black["kept"].any()
    ctkit("run", "p.toml")
    with np.load(shown) as pictures:
        assert pictures["kept"].any()


def test_pictures_that_fail_leave_a_report_and_say_so(
    folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no picture today")

    monkeypatch.setattr("ctkit.stages.pictures.draw", fail)
    for _ in range(2):
        code, out, errors = ctkit("run", "p.toml")
        assert code == 1
        assert "no picture today" in errors
        assert "Traceback" not in errors
        assert "failed in part; report: " in out, "also where all the rest is there already"
    assert "ValueError: no picture today" in ctkit("run", "p.toml", "--debug")[2].partition("Traceback")[2]
    assert (folder / "runs" / "small" / "report.html").exists()


def test_slices_that_cannot_be_read_are_counted(folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*arguments: Any) -> list[Reading]:
        return [replace(reading, skipped=((3, "noise"),)) for reading in describe(*arguments)]

    monkeypatch.setattr("ctkit.pipeline.describe", noisy)
    (folder / "p.toml").write_text(PIPELINE.replace("patients = 2", "patients = 1"))
    _, out, _ = ctkit("run", "p.toml", "--until", "describe")
    assert "1 volume of 1 patient, 12 slices\n" in out
    assert "1 slice of 1 volume cannot be read, see skipped.csv\n" in out


def test_a_broken_plugin_is_told_of_before_it_is_missed(
    folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Entry("unknown", "diary", "", "ct-diary", "1.0", status="broken", error="ImportError: no pen")
    monkeypatch.setattr(plugins.load(), "entries", [*plugins.load().entries, broken])
    for words in (["validate", "p.toml"], ["run", "p.toml", "--dry-run"]):
        code, _, err = ctkit(*words)
        assert code == 0
        assert "plugin 'diary' of ct-diary is broken and left out: ImportError: no pen" in err


def test_an_arm_that_left_the_file_leaves_the_run_folder(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
    (folder / "p.toml").write_text(PIPELINE.split("[[reduce]]\nid")[0])
    ctkit("run", "p.toml", "--until", "select")
    assert [path.name for path in (folder / "runs" / "small" / "arms").iterdir()] == ["all"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rnu", "p.toml"], 2, "there is no command 'rnu'; did you mean 'run'?"),
        (["run"], 2, "Missing argument 'FILE'"),
        (["run", "none.toml"], 2, "cannot read the pipeline file none.toml: No such file or directory"),
        (["run", "p.toml", "--untl", "scan"], 2, "No such option"),
        (["run", "p.toml", "--until", "scna"], 2, "scna"),
        (["run", "p.toml", "--set", "dataset.sise=3"], 2, "dataset.sise: unknown key; did you mean 'size'?"),
        (["run", "p.toml", "--out", "p.toml/x"], 1, "p.toml/x"),
        (["describe", "reducer", "hsah"], 2, "there is no reducer 'hsah'; did you mean 'hash'?"),
        (["report", "nowhere"], 2, "nowhere is no run folder: it has no run.json"),
        (["run", "p.toml", "--set", "compute.device=cuda"], 2, "shows no CUDA device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_with_its_exit_code(
    folder: Path, ctkit: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr("ctkit.devices.cuda_devices", lambda: 0)
    left, _, err = ctkit(*words)
    assert left == code
    assert message in err
    assert err.startswith("ctkit: ")
    assert err.count("\n") == 1


def test_an_empty_folder_is_said_to_be_empty(folder: Path, ctkit: Run) -> None:
    (folder / "scans").mkdir()
    (folder / "p.toml").write_text('[run]\nname="x"\n[dataset]\nuse="dicom"\nroot="scans"\n[[reduce]]\nuse="all"\n')
    code, _, err = ctkit("run", "p.toml")
    assert code == 1
    assert "there is not a single file in" in err


def test_a_folder_without_a_ct_says_what_it_found(folder: Path, ctkit: Run) -> None:
    (folder / "scans").mkdir()
    (folder / "scans" / "notes.txt").write_text("no scan")
    (folder / "p.toml").write_text('[run]\nname="x"\n[dataset]\nuse="dicom"\nroot="scans"\n[[reduce]]\nuse="all"\n')
    code, _, err = ctkit("run", "p.toml")
    assert code == 1
    assert "there is not a single CT volume among 1 files" in err


def test_two_runs_into_one_folder_at_once_are_refused(folder: Path, ctkit: Run) -> None:
    run = folder / "runs" / "small"
    run.mkdir(parents=True)
    with FileLock(run / ".lock"):
        code, _, err = ctkit("run", "p.toml")
    assert code == 1
    assert "another process is running in" in err


def test_plugins_are_listed_as_objects(ctkit: Run) -> None:
    _, out, _ = ctkit("list-plugins", "--json")
    entries = json.loads(out)
    assert {"kind", "name", "summary", "distribution", "version", "status", "error"} <= set(entries[0])
    assert {"hash", "phantom", "simclr", "image-folder", "linear"} <= {entry["name"] for entry in entries}


def test_plugins_are_listed_by_kind(ctkit: Run) -> None:
    _, out, _ = ctkit("list-plugins", "--kind", "reducer")
    assert {line.split()[0] for line in out.splitlines()} == {"reducer"}


def test_a_plugin_is_described_with_its_parameters_and_knob(ctkit: Run) -> None:
    _, out, _ = ctkit("describe", "reducer", "hash")
    assert "Knob: threshold, 0..64 bits, default 6" in out
    assert "bits  64 | 256, default 64" in out


def test_a_plugin_gives_the_schema_of_its_parameters(ctkit: Run) -> None:
    _, out, _ = ctkit("describe", "dataset", "phantom", "--json")
    assert "patients" in json.loads(out)["properties"]


def test_a_file_can_be_checked_without_running_it(folder: Path, ctkit: Run) -> None:
    code, out, _ = ctkit("validate", "p.toml")
    assert code == 0
    assert "3 arms" in out
    assert not (folder / "runs").exists()


def test_a_selection_needs_no_pipeline_file(folder: Path, ctkit: Run) -> None:
    options = ("-d", "patients=2", "-d", "slices=12", "-p", "threshold=4", "-p", "id=h")
    code, _, _ = ctkit("reduce", "--dataset", "phantom", "--reducer", "hash", *options, "--out", "chosen")
    assert code == 0
    assert len(read_csv(folder / "chosen" / "arms" / "h" / "selection.csv")) == 24
    assert (folder / "chosen" / "report.html").is_file()


def test_a_curve_agrees_with_the_selection_and_is_plotted_on_request(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "report")
    run = folder / "runs" / "small"
    record = (run / "run.json").read_bytes()
    code, out, _ = ctkit("curve", str(run), "hash6", "--json")
    assert code == 0
    printed = [json.loads(line) for line in out.splitlines()]
    kept = {row["at"]: row["kept"] for row in printed if row["event"] == "row"}
    rows = read_csv(run / "arms" / "hash6" / "selection.csv")
    assert list(kept) == list(range(65))
    assert kept[6] == sum(row["kept"] == "true" for row in rows)
    assert (run / "arms" / "hash6" / "curve.svg").is_file()
    assert (run / "run.json").read_bytes() == record


def test_a_plotted_curve_goes_with_the_selection_that_it_marks(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
    arm = folder / "runs" / "small" / "arms" / "hash6"
    ctkit("curve", str(arm.parent.parent), "hash6")
    ctkit("run", "p.toml", "--until", "select")
    assert (arm / "curve.svg").exists()
    ctkit("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    assert not (arm / "curve.svg").exists()


def test_a_selection_without_a_file_has_a_curve_on_request(folder: Path, ctkit: Run) -> None:
    options = ("-d", "patients=2", "-d", "slices=8", "-p", "keep={share=0.5}", "-p", "id=h")
    code, out, _ = ctkit("reduce", "--dataset", "phantom", "--reducer", "entropy", *options, "--curve", "--out", "c")
    assert code == 0
    rows = read_csv(folder / "c" / "arms" / "h" / "curve.csv")
    assert len(rows) == 33
    assert rows[0] == {"at": "0", "kept": "16", "share": "1"}
    assert "at    kept  share" in out
    assert "How many slices another threshold would keep" in (folder / "c" / "report.html").read_text()


def test_the_kept_slices_are_exported_on_request(folder: Path, ctkit: Run) -> None:
    options = ("-d", "patients=2", "-d", "slices=6", "-p", "id=h", "--export", "png", "--out", "c")
    code, out, _ = ctkit("reduce", "--dataset", "phantom", "--reducer", "hash", *options)
    assert code == 0
    rows = [row for row in read_csv(folder / "c" / "arms" / "h" / "selection.csv") if row["kept"] == "true"]
    names = {f"{row['volume']}-{int(row['index']):05d}.png" for row in rows}
    assert {path.name for path in (folder / "c" / "slices-png").rglob("*.png")} == names
    code, out, _ = ctkit("export-slices", "c", "h", "--format", "nifti", "--out", "n")
    assert code == 0
    assert f"{len(rows)} slices exported as nifti: n" in out


def test_an_export_that_cannot_be_is_refused_before_anything_runs(folder: Path, ctkit: Run) -> None:
    code, _, err = ctkit("reduce", "--dataset", "phantom", "--reducer", "hash", "--export", "dicom", "--out", "c")
    assert code == 2
    assert "data set phantom has no source files to export as dicom; take png or nifti" in err
    assert not (folder / "c").exists()


def test_an_arm_is_explained_on_a_page_that_goes_with_its_selection(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
    page = folder / "runs" / "small" / "arms" / "hash6" / "explain.html"
    code, out, _ = ctkit("explain", "runs/small", "hash6")
    assert code == 0
    assert page.is_file()
    assert "explanation: " in out
    ctkit("run", "p.toml", "--until", "select", "--set", "reduce.hash6.threshold=3")
    assert not page.exists()


@pytest.mark.parametrize(
    ("run", "arm", "message"),
    [
        ("nowhere", "all", "nowhere is no run folder"),
        ("runs/small", "hsah6", "has no arm 'hsah6'; did you mean 'hash6'?"),
        ("runs/small", "all", "arm 'all' has no curve: all has no knob to turn"),
    ],
)
def test_a_curve_of_nothing_is_refused(folder: Path, ctkit: Run, run: str, arm: str, message: str) -> None:
    ctkit("run", "p.toml", "--until", "select")
    code, _, err = ctkit("curve", run, arm)
    assert code == 2
    assert message in err


def test_a_run_whose_data_changed_is_not_opened_again(folder: Path, ctkit: Run) -> None:
    ctkit("run", "p.toml", "--until", "select")
    shutil.rmtree(folder / "runs" / ".cache" / "selection")
    code, _, err = ctkit("curve", "runs/small", "hash6")
    assert code == 2
    assert "run it again" in err


def test_a_traceback_is_shown_on_request_only(folder: Path, ctkit: Run) -> None:
    assert "Traceback" not in ctkit("run", "none.toml")[2]
    assert "Traceback" in ctkit("run", "none.toml", "--debug")[2]


def test_pixels_leave_the_run_folder_once_they_are_not_to_be_shown(folder: Path, ctkit: Run) -> None:
    run = folder / "runs" / "small"
    ctkit("run", "p.toml")
    ctkit("explain", "runs/small", "hash6")
    assert len(list(run.rglob("pictures.npz"))) == 3
    assert "data:image/jpeg" in (run / "report.html").read_text()
    ctkit("run", "p.toml", "--set", "report.images=false")
    assert not [*run.rglob("pictures.npz"), *run.rglob("explain.html")]
    assert "data:image/jpeg" not in (run / "report.html").read_text()
    ctkit("run", "p.toml")
    assert "data:image/jpeg" in (run / "report.html").read_text()


@pytest.mark.parametrize(("command", "lines"), [("export", "timm         NAME/"), ("export-slices", "dicom  links to")])
def test_the_help_of_an_export_lists_formats_line_by_line(ctkit: Run, command: str, lines: str) -> None:
    _, out, _ = ctkit(command, "--help")
    assert f"\n  {lines}" in out
