"""What a disk has damaged in the cache is made anew, with a warning, and the results are those of before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctkit.cli import main
from ctkit.files import write_bytes
from ctkit.storage import KINDS

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
ON_REQUEST = {"curve.svg", "explain.html"}
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
    """What the run folder shows, but for times and what was made on request."""
    there = (path for path in sorted((RUN / "arms").rglob("*")) if path.is_file() and path.name not in ON_REQUEST)
    files = {path.relative_to(RUN).as_posix(): path for path in there}
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
    assert warnings[0].endswith("in the cache is damaged, by the disk or an incomplete copy; it is rebuilt")
    assert shown() == expected
    assert run() == ""


def test_an_emptied_description_of_an_arm_in_the_run_folder_is_written_anew(run: Run) -> None:
    expected = shown()
    (RUN / "arms" / "hash" / "arm.json").write_text("")
    assert run() == ""
    assert shown() == expected


def files_of_entries() -> list[Path]:
    return sorted(
        path for kind in KINDS for path in (CACHE / kind).rglob("*") if path.is_file() and path.stat().st_size
    )


def change(path: Path) -> None:
    """Make a digit in the middle of a file another one, or a byte where there is no digit, as nobody would notice."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    places = [*range(middle, len(data)), *range(middle)]
    place = next((n for n in places if 48 <= data[n] <= 57), middle)
    data[place] ^= 1
    path.write_bytes(data)


def test_a_digit_changed_in_every_file_of_the_cache_changes_no_result(run: Run) -> None:
    expected = shown()
    kinds = {path.relative_to(CACHE).parts[0] for path in files_of_entries()}
    assert {"evaluation", *(file.partition("/")[0] for file in FILES)} <= kinds
    for path in files_of_entries():
        change(path)
    warnings = run().splitlines()
    assert all("damaged" in line for line in warnings)
    assert shown() == expected
    assert run() == ""
    for kind in ("evaluate", "scores", "comparisons"):
        shutil.rmtree(CACHE / kind)
    for path in (CACHE / "evaluation").rglob("*.npy"):
        change(path)
    assert "kept features are damaged" in run()
    assert shown() == expected


def test_an_entry_of_another_shape_is_rebuilt(run: Run) -> None:
    expected = shown()
    shutil.rmtree(CACHE / "scan")
    for kind, value in (("headers", b"[1]"), ("reading", b'{"slices": "x"}'), ("scores", b"{}"), ("comparisons", b"7")):
        for path in (CACHE / kind).rglob("*.entry"):
            write_bytes(path, value, sealed=True)
    assert "damaged" in run()
    assert shown() == expected
    assert run() == ""


LOOKS = [
    ["run", "p.toml", "--dry-run"],
    ["validate", "p.toml"],
    ["explain", "runs/damaged", "hash"],
    ["curve", "runs/damaged", "hash"],
    ["runs"],
    ["compare", "runs/damaged"],
    ["report", "runs/damaged"],
]
#: Commands one after the other in a process, whose last line has their exit codes. What root may do is taken from root.
LOOK = """\
import json, sys
from ctkit.cli import main
from ctkit.files import write_bytes
from ctkit.storage import KINDS
codes = []
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as left:
        codes.append(left.code)
print(codes)
"""


def look(folder: Path, commands: list[list[str]]) -> tuple[list[int], str]:
    bare = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    environment = {name: value for name, value in os.environ.items() if name != "CTKIT_CACHE"}
    command = [*bare, sys.executable, "-c", LOOK, json.dumps(commands)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes, done.stderr


def states() -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_ino, path.read_bytes()) for path in files_of_entries()}


@pytest.mark.skipif(os.name == "nt" or not shutil.which("setpriv"), reason="no way to take from root what root may do")
def test_commands_that_only_look_work_on_a_cache_that_cannot_be_written(run: Run, folder: Path) -> None:
    shutil.rmtree(CACHE / "curve")  # so that it has to be made
    before = states()
    for path in [CACHE, *CACHE.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        codes, said = look(folder, LOOKS)
    finally:
        for path in [CACHE, *CACHE.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
    assert codes == [0] * len(LOOKS), said
    assert said.count("is not writable") == 2  # a run could not work: validate and --dry-run say so
    assert states() == before
    assert run() == ""


@pytest.mark.skipif(os.name == "nt" or not shutil.which("setpriv"), reason="no way to take from root what root may do")
def test_a_cache_that_only_another_user_may_read_is_said_to_be_that(run: Run, folder: Path) -> None:
    mode = CACHE.stat().st_mode
    CACHE.chmod(0)
    try:
        codes, said = look(folder, [*LOOKS, ["clean", "--older-than", "1d"]])
    finally:
        CACHE.chmod(mode)
    assert "Error" not in said
    assert said.count("set CTKIT_CACHE to a folder of your own") == codes.count(2) > 4


def test_commands_that_only_look_leave_what_is_damaged_in_the_cache(
    run: Run, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected = shown()
    for kind in ("evidence", "selection", "evaluate", "scores"):
        for path in (CACHE / kind).rglob("*"):
            if path.is_file():
                change(path)
    before = states()
    codes = []
    for words in LOOKS:
        with pytest.raises(SystemExit) as left:
            main(words)
        codes.append(left.value.code)
    said = capsys.readouterr().err
    assert codes == [0, 0, 2, 2, 0, 0, 0]
    assert said.count("its selection is not in the cache") == 2  # explain, curve
    assert "the next run rebuilds it" in caplog.text
    assert states() == before
    assert "rebuilt" in run()
    assert shown() == expected
