"""``ctkit reduce``: a choice without a pipeline file, and the commands of plugins that go with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.files import read_csv

Run = Callable[..., tuple[int, str, str]]


def test_a_selection_needs_no_pipeline_file(folder: Path, command: Run) -> None:
    options = ("-d", "patients=2", "-d", "slices=12", "-p", "threshold=4", "-p", "id=h")
    code, _, _ = command("reduce", "--dataset", "phantom", "--reducer", "hash", *options, "--out", "chosen")
    assert code == 0
    assert len(read_csv(folder / "chosen" / "arms" / "h" / "selection.csv")) == 24
    assert (folder / "chosen" / "report.html").is_file()


def test_a_selection_without_a_file_has_a_curve_on_request(folder: Path, command: Run) -> None:
    options = ("-d", "patients=2", "-d", "slices=8", "-p", "keep={share=0.5}", "-p", "id=h")
    code, out, _ = command("reduce", "--dataset", "phantom", "--reducer", "entropy", *options, "--curve", "--out", "c")
    assert code == 0
    rows = read_csv(folder / "c" / "arms" / "h" / "curve.csv")
    assert len(rows) == 33
    assert rows[0] == {"at": "0", "kept": "16", "share": "1"}
    assert "at    kept  share" in out
    assert "what another threshold would keep" in (folder / "c" / "report.html").read_text()


def test_the_kept_slices_are_exported_on_request(folder: Path, command: Run) -> None:
    options = ("-d", "patients=2", "-d", "slices=6", "-p", "id=h", "--export", "png", "--out", "c")
    code, out, _ = command("reduce", "--dataset", "phantom", "--reducer", "hash", *options)
    assert code == 0
    rows = [row for row in read_csv(folder / "c" / "arms" / "h" / "selection.csv") if row["kept"] == "true"]
    names = {f"{row['volume']}-{int(row['index']):05d}.png" for row in rows}
    assert {path.name for path in (folder / "c" / "slices-png").rglob("*.png")} == names
    code, out, _ = command("export-slices", "c", "h", "--format", "nifti", "--out", "n")
    assert code == 0
    assert f"{len(rows)} slices exported as nifti: n" in out


def test_an_export_that_cannot_be_is_refused_before_anything_runs(folder: Path, command: Run) -> None:
    code, _, err = command("reduce", "--dataset", "phantom", "--reducer", "hash", "--export", "dicom", "--out", "c")
    assert code == 2
    assert "data set phantom has no source files to export as dicom; take png or nifti" in err
    assert not (folder / "c").exists()


@pytest.mark.parametrize(
    ("option", "plugin"), [(["--curve"], "ctkit-reports"), (["--export", "png"], "ctkit-exporters")], ids=" ".join
)
def test_a_command_that_is_not_there_is_missed_before_anything_runs(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch, option: list[str], plugin: str
) -> None:
    monkeypatch.setenv(plugins.DISABLE, plugin)
    plugins.load.cache_clear()
    try:
        code, _, err = command("reduce", "--dataset", "phantom", "--reducer", "hash", *option, "--out", "c")
    finally:
        plugins.load.cache_clear()
    assert code == 2
    assert f"of the plugin {plugin}, which is missing: install it, or remove it from CTKIT_DISABLE_PLUGINS" in err
    assert err.count("\n") == 1
    assert not (folder / "c").exists()


def test_what_is_asked_of_a_selection_that_is_there_fails_with_exit_code_1(folder: Path, command: Run) -> None:
    code, _, err = command("reduce", "--dataset", "phantom", "--reducer", "all", "--curve", "--out", "c")
    assert code == 1
    assert "has no curve: all has no knob" in err
    assert (folder / "c" / "arms" / "all" / "selection.csv").exists()


def test_mistakes_are_said_of_the_options_that_they_are_in(tmp_path: Path, command: Run) -> None:
    options = ("--dataset", "dicom", "-d", "sie=9", "--reducer", "hash", "-p", "threshold=abc", "-p", "keep=0.3")
    code, _, err = command("reduce", str(tmp_path / "none"), *options, "--out", str(tmp_path / "out"))
    assert code == 2
    assert "SOURCE: no such file or folder: " in err
    assert "-d sie: unknown key; did you mean 'size'?" in err
    assert "-p threshold: must be a whole number but is 'abc'" in err
    assert "-p keep: must be a table but is 0.3" in err
    assert "reduce[0]" not in err
    options = ("--dataset", "phantm", "--reducer", "ssim")
    err = command("reduce", *options, "--out", str(tmp_path / "out"))[2]
    assert "--dataset: there is no dataset 'phantm'; did you mean 'phantom'?" in err
    assert "--reducer: ssim needs threshold (1 - SSIM) or keep, a budget" in err
