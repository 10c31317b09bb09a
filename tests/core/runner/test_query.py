"""``ctkit.query`` and ``ctkit query``: new scans against what a run keeps."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ctkit
from ctkit.contracts import Slices
from ctkit.errors import ConfigError, CtkitError, RequestError
from ctkit.files import read_csv
from ctkit.slices import rendering
from ctkit_datasets.nifti import Nifti, NiftiParams
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_reducers.hash import Hash
from phantom_files import write_nifti

Command = Callable[..., tuple[int, str, str]]
LOOK = {"slices": 10, "slice_spacing": 4.0, "matrix": 64}


def scans(folder: Path, seed: int, patients: int = 2) -> Path:
    write_nifti(folder, Phantom(PhantomParams(patients=patients, seed=seed, **LOOK)))
    return folder


def made(folder: Path, *reducers: dict[str, Any]) -> Path:
    document = {
        "run": {"name": "x", "out": str(folder / "runs" / "x")},
        "compute": {"workers": 1, "device": "cpu"},
        "dataset": {"use": "nifti", "root": str(scans(folder / "scans", seed=0))},
        "reduce": list(reducers),
    }
    return ctkit.run(document, until="select").path


def new_scans(folder: Path) -> Path:
    """Two new patients, a copy of a known scan, and a file that is none."""
    target = scans(folder / "new", seed=7)
    shutil.copy(folder / "scans" / "phantom-1.nii.gz", target / "copy.nii.gz")
    (target / "damaged.nii.gz").write_bytes(b"no NIfTI")
    return target


def codes(folder: Path) -> dict[tuple[str, int], int]:
    """The hash of each slice below a folder, by its file and number."""
    dataset, found = Nifti(NiftiParams(root=folder)), {}
    headers = ((file, dataset.inspect(file)) for file in dataset.files() if "damaged" not in file.path)
    for volume in dataset.arrange(headers):  # type: ignore[arg-type]  # none is left out
        pixels = dataset.read(volume)  # type: ignore[arg-type]
        grey = rendering.evidence(pixels.values)
        for number, code in enumerate(Hash().describe(Slices(grey, pixels.values, pixels.index))):
            found[volume.source(number), number] = int(code.item())  # type: ignore[union-attr]
    return found


def test_each_new_slice_has_the_nearest_kept_one(tmp_path: Path) -> None:
    run, new = made(tmp_path, {"use": "hash", "id": "hash6", "threshold": 6}), new_scans(tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    table = ctkit.open_run(run).selection("hash6").query("kept")
    known = codes(tmp_path / "scans")
    kept = {(one.source, one.index): known[one.source, one.index] for one in table.itertuples()}
    for file in (tmp_path / "scans").iterdir():  # of known scans nothing is read again
        times = file.stat()
        file.write_bytes(bytes(times.st_size))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    found = ctkit.query(run, new)
    assert (found.arm, found.threshold, found.unit, found.compared) == ("hash6", 6.0, "bits", 30)
    expected = codes(new)
    for row in found.rows[:30]:
        assert row.index is not None
        apart = {place: (code ^ expected[row.source, row.index]).bit_count() for place, code in kept.items()}
        assert row.distance == min(apart.values())
        assert apart[row.kept_source, row.kept_index or 0] == row.distance
        assert row.duplicate == (row.distance <= 6)
    copied = [row for row in found.rows if row.source == "copy.nii.gz"]
    assert all(row.duplicate for row in copied)
    assert 0 < found.duplicates < 30
    (damaged,) = [row for row in found.rows if row.reason]
    assert (damaged.source, damaged.index, damaged.duplicate) == ("damaged.nii.gz", None, False)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not list((tmp_path / "runs").glob(".query-*"))


def test_the_command_prints_counts_and_writes_rows(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, {"use": "hash", "id": "hash6", "keep": {"share": 0.5}}, {"use": "every-n", "id": "thin"})
    new_scans(tmp_path)
    code, out, _ = command("query", "runs/x", "new", "--arm", "hash6", "--out", "rows.csv")
    assert code == 0
    rows = read_csv(tmp_path / "rows.csv")
    many = sum(row["duplicate"] == "true" for row in rows)
    assert len(rows) == 31
    assert "30 slices compared with what hash6 keeps, near-duplicates up to " in out
    assert f"{many} ({many / 30:.1%}) are near-duplicates, {30 - many} are new" in out
    assert "1 left out: " in out
    assert "new/" not in out
    assert "phantom-" not in out
    code, out, _ = command("query", "runs/x", "new", "--arm", "hash6", "--json", "-q")
    assert code == 0
    assert (command("query", "runs/x", "new")[0], command("query", "runs/x", "none", "--arm", "hash6")[0]) == (2, 2)


def test_an_arm_that_compares_no_rows_is_refused_plainly(tmp_path: Path) -> None:
    run = made(tmp_path, {"use": "every-n", "id": "thin"}, {"use": "ssim", "id": "ssim", "threshold": 0.3})
    with pytest.raises(RequestError, match="has 2 arms, so name one: thin, ssim"):
        ctkit.query(run, tmp_path / "scans")
    with pytest.raises(RequestError, match="arm 'ssim' cannot be queried: ssim compares the pixels of two"):
        ctkit.query(run, tmp_path / "scans", arm="ssim")
    with pytest.raises(RequestError, match="arm 'thin' cannot be queried: every-n looks at no pixels; take"):
        ctkit.query(run, tmp_path / "scans", arm="thin")
    with pytest.raises(RequestError, match="has no arm 'hash'"):
        ctkit.query(run, tmp_path / "scans", arm="hash")


def test_new_scans_may_come_from_another_data_set(tmp_path: Path) -> None:
    run = made(tmp_path, {"use": "hash", "id": "hash6", "threshold": 6})
    found = ctkit.query(ctkit.open_run(run), dataset="phantom", dataset_parameters={"patients": 1, "seed": 0, **LOOK})
    assert (found.compared, found.duplicates) == (10, 10)
    with pytest.raises(ConfigError, match=r"ctkit query: dataset.root: no such file or folder"):
        ctkit.query(run, tmp_path / "none")
    with pytest.raises(RequestError, match="give the folder of the new scans"):
        ctkit.query(run)
    assert json.loads((run / "run.json").read_text())["state"] == "stopped at select"


FAINT = """
import numpy as np
from ctkit.contracts import *

class P(Params):
    at: float = knob(1, low=0, high=9, unit="levels", description="how many")

class Mine(Reducer[P]):
    evidence = "slice"

    def describe(self, slices):
        return slices.grey.mean(axis=(1, 2))

    def select(self, group, at, rng):
        if at == 9:
            raise KeyError("nine")
        return Decision(np.arange(len(group)) < at)
"""


def test_what_cannot_be_compared_is_said_in_the_name_of_its_arm_or_reducer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FAINT)
    run = made(tmp_path, {"id": "one", "use": "mine.py:Mine"}, {"id": "none", "use": "mine.py:Mine", "at": 0})
    with pytest.raises(RequestError, match="arm 'none' keeps no slice, so there is nothing to compare with"):
        ctkit.query(run, new_scans(tmp_path), arm="none")
    with pytest.raises(CtkitError, match="reducer 'Mine' failed in select: KeyError: 'nine'"):
        ctkit.query(run, tmp_path / "new", arm="one")
