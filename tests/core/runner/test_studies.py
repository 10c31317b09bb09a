"""The functions behind ``ctkit run`` and ``ctkit reduce``, called from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctkit
from ctkit.errors import ConfigError, CtkitError, RequestError
from ctkit.files import read_csv
from ctkit_datasets.phantom import Phantom, PhantomParams
from phantom_files import write_nifti

STUDY: dict[str, Any] = {
    "run": {"name": "study"},
    "compute": {"workers": 1, "device": "cpu"},
    "dataset": {"use": "phantom", "patients": 2, "slices": 8, "matrix": 32, "size": 16},
    "reduce": [{"use": "all"}, {"use": "hash", "id": "hash6", "threshold": 6}],
}


def test_a_pipeline_is_run_from_its_tables_and_the_result_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ctkit.run(STUDY, changes=["reduce.hash6.threshold=4"], out="here")
    assert run.path == tmp_path / "here"
    assert [(arm.name, arm.at) for arm in run.arms] == [("all", None), ("hash6", 4.0)]
    assert run.folder.report.is_file()
    assert capsys.readouterr() == ("", "")
    assert STUDY["reduce"][1]["threshold"] == 6
    assert "track" not in STUDY


def test_a_pipeline_may_have_what_python_has_in_the_place_of_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables = ({"use": "hash", "threshold": np.int64(6), "keep": None}, {"use": "every-n", "n": np.uint8(2)})
    run = ctkit.run(STUDY | {"reduce": tables}, until="select")
    assert [arm.at for arm in run.arms] == [6.0, 2.0]
    patients = {"patients": np.int16(1), "slices": 8, "matrix": 32}
    found = ctkit.reduce(dataset="phantom", reducer="every-n", n=np.int64(4), out="b", dataset_parameters=patients)
    assert found.selection.kept.sum() == 2


def test_a_console_shows_the_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ctkit.run(STUDY, until="scan", console=ctkit.Console())
    assert "2 volumes of 2 patients, 16 slices" in capsys.readouterr().out


def test_what_is_wrong_is_one_of_ctkits_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"pipeline: reduce\[1\].threshold: must be .* but is 99"):
        ctkit.run(STUDY, changes=["reduce.hash6.threshold=99"])
    with pytest.raises(RequestError, match="cannot read the pipeline file none.toml"):
        ctkit.run("none.toml")
    with pytest.raises(RequestError, match="--only needs arm, pretrain, task or seed"):
        ctkit.run(STUDY, only=["hash6"])
    with pytest.raises(RequestError, match="until must be a stage but is 'scna'; did you mean 'scan'"):
        ctkit.run(STUDY, until="scna")  # type: ignore[arg-type]  # as somebody may write it
    with pytest.raises(RequestError, match="jobs must be 1, 2, .* but is 0"):
        ctkit.run(STUDY, jobs=0)
    with pytest.raises(ConfigError, match="there is no reducer 'hahs'"):
        ctkit.reduce(dataset="phantom", reducer="hahs", out="x")


def test_a_part_that_fails_is_an_error_and_the_rest_can_be_opened(tmp_path: Path, toys: None) -> None:
    document = {
        **STUDY,
        "run": {"name": "x", "out": str(tmp_path / "x")},
        "pretrain": [{"use": "mean", "mood": "raises"}],
    }
    with pytest.raises(CtkitError, match=r"of the run failed, see run\.json; first: "):
        ctkit.run(document)
    assert len(ctkit.open_run(tmp_path / "x").arms) == 2


def test_a_reduction_gives_the_source_files_that_are_kept(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans", Phantom(PhantomParams(patients=2, slices=8, matrix=32)))
    found = ctkit.reduce(
        tmp_path / "scans", dataset="nifti", reducer="hash", threshold=4, id="h", out=tmp_path / "chosen"
    )
    assert [path.name for path in found.kept] == ["phantom-0.nii.gz", "phantom-1.nii.gz"]
    assert all(path.is_file() for path in found.kept)
    table, rows = found.selection, read_csv(tmp_path / "chosen" / "arms" / "h" / "selection.csv")
    assert table.kept.tolist() == [row["kept"] == "true" for row in rows]
    assert table.volume.tolist() == [row["volume"] for row in rows]
    np.testing.assert_array_equal(table.represented_by.isna(), [row["represented_by"] == "" for row in rows])
    datalist = found.run.datalist("h")
    assert len(datalist) == table.kept.sum()
    assert datalist[0] == {"image": str(found.kept[0]), "volume": rows[0]["volume"], "index": 0}


def test_a_script_needs_no_guard_for_its_worker_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import ctkit\nprint('begins')\n"
        "found = ctkit.reduce(dataset='phantom', reducer='hash', out='chosen',"
        " dataset_parameters={'patients': 2, 'slices': 4, 'matrix': 32})\n"
        "print(len(found.run.volumes))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("begins\n2\n", "")
    command = ctkit.open_run(tmp_path / "chosen").facts["command"]
    assert command == ["python", "script.py"]
