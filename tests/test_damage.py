"""What a disk has damaged in the cache is made anew, with a warning, and the results are those of before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctkit.cli import main

PIPELINE = """\
[run]
name = "damaged"
[compute]
device = "cpu"
workers = 1
[dataset]
use = "images"
root = "scans"
size = 32
[[reduce]]
use = "hash"
[[pretrain]]
use = "untrained"
backbone = "resnet18"
[[baseline]]
[[task]]
use = "phantom-lesions"
train = 8
val = 4
test = 8
size = 32
protocol = { use = "knn", size = 32 }
"""
RUN, CACHE = Path("runs/damaged"), Path("runs/.cache")
TIMES = {"seconds", "seconds_select"}  #: of work that is done again

#: Files of the cache, and what else must be missing for them to be asked for.
FILES = {
    "scan/volumes.jsonl": (),
    "scan/volumes.npz": (),
    "scan/skipped.csv": (),
    "headers/*.entry": ("scan",),
    "reading/*.entry": (),
    "evidence/*.entry": ("selection",),
    "selection/selection.npz": (),
    "curve/curve.csv": (),
    "pictures/pictures.npz": (),
    "pictures/mistakes.npz": (),
    "store/shard.json": ("pretrain",),
    "store/pixels.npy": ("pretrain",),
    "pretrain/pretrain.json": (),
    "pretrain/history.csv": (),
    "pretrain/backbone.safetensors": (),
    "evaluate/facts.json": (),
    "evaluate/predictions.csv": ("scores",),
    "scores/*.entry": (),
    "comparisons/*.entry": (),
}
Run = Callable[[], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans, a pipeline file, and what came of it."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "scans").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (32, 32)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "scans" / f"p{number // 6}_{number % 6}.png")
    (folder / "p.toml").write_text(PIPELINE)
    with pytest.MonkeyPatch.context() as patch, chdir(folder), pytest.raises(SystemExit, match="0"):
        patch.delenv("CTKIT_CACHE", raising=False)
        main(["run", "p.toml", "--quiet"])
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the pipeline to its end, and return what is said to standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)

    def _run() -> str:
        with pytest.raises(SystemExit, match="0"):
            main(["run", "p.toml"])
        return capsys.readouterr().err

    return _run


def shown() -> dict[str, Any]:
    """What the run folder shows, but for times."""
    files = {path.relative_to(RUN).as_posix(): path for path in sorted((RUN / "arms").rglob("*")) if path.is_file()}
    files |= {name: RUN / name for name in ("volumes.csv", "results.csv", "comparisons.csv")}
    return {
        name: without_times(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()
        for name, path in files.items()
    }


def without_times(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in TIMES}


@pytest.mark.parametrize("file", FILES)
def test_what_is_cut_short_in_the_cache_is_made_anew_with_one_warning(run: Run, file: str) -> None:
    expected = shown()
    kind, name = file.split("/")
    for asked in FILES[file]:
        shutil.rmtree(CACHE / asked)
    path = min(path for path in (CACHE / kind).rglob(name) if path.name != "sums.json")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    warnings = run().splitlines()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: {kind}/")
    assert warnings[0].endswith("in the cache is damaged, by the disk or a copy cut short; it is rebuilt")
    assert shown() == expected
    assert run() == ""


def test_an_emptied_description_of_an_arm_in_the_run_folder_is_written_anew(run: Run) -> None:
    expected = shown()
    (RUN / "arms" / "hash" / "arm.json").write_text("")
    assert run() == ""
    assert shown() == expected
