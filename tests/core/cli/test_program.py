"""Exit codes, and errors of one line that say what would be right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rnu", "p.toml"], 2, "there is no command 'rnu'; did you mean 'run'?"),
        (["run"], 2, "Missing argument 'FILE'"),
        (["run", "none.toml"], 2, "cannot read the pipeline file none.toml: No such file or directory"),
        (["run", "p.toml", "--untl", "scan"], 2, "No such option"),
        (["run", "p.toml", "--until", "scna"], 2, "scna"),
        (["run", "p.toml", "--set", "dataset.sise=3"], 2, "dataset.sise: unknown key; did you mean 'size'?"),
        (["run", "p.toml", "--out", "p.toml/x"], 2, "p.toml is a file; give another folder"),
        (["describe", "reducer", "hsah"], 2, "there is no reducer 'hsah'; did you mean 'hash'?"),
        (["report", "nowhere"], 2, "nowhere is not a run folder: it has no run.json"),
        (["run", "p.toml", "--set", "compute.device=cuda"], 2, "shows no CUDA device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_with_its_exit_code(
    folder: Path, command: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr("ctkit.compute.devices.cuda_devices", lambda: 0)
    left, _, err = command(*words)
    assert left == code
    assert message in err
    assert err.startswith("ctkit: ")
    assert err.count("\n") == 1


def test_a_traceback_is_shown_on_request_only(folder: Path, command: Run) -> None:
    assert "Traceback" not in command("run", "none.toml")[2]
    assert "Traceback" in command("run", "none.toml", "--debug")[2]


NOISY = '''\
import os

def say(where):
    print(f"python prints in {where}")
    os.write(1, f"native code prints in {where}\\n".encode())

say("import")
from ctkit.hookspecs import Spec, hookimpl
from ctkit_datasets.images import Images

class Noisy(Images):
    """Pictures."""

    def check(self, device):
        say("check")
        return super().check(device)

    def inspect(self, file):
        say("a worker")
        return super().inspect(file)

    def arrange(self, headers):
        say("arrange")
        return super().arrange(headers)

@hookimpl
def ctkit_register_datasets():
    return [Spec("noisy", "pictures", "noisy:Noisy")]

@hookimpl
def ctkit_run_finished(run):
    say("a hook")
'''


def test_what_plugins_and_native_code_print_stays_out_of_json(tmp_path: Path) -> None:
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16)).astype(np.uint8)
        (tmp_path / "scans").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "scans" / f"p_{number}.png")
    info = tmp_path / "site" / "noisy-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "noisy.py").write_text(NOISY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nnoisy = noisy\n")
    paths = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    reduce = ["reduce", "scans", "--dataset", "noisy", "--reducer", "every-n", "--out", "out", "--json"]
    for words in (reduce, ["list-plugins", "--json"], ["schema"]):
        command = [sys.executable, "-m", "ctkit", *words]
        environment = os.environ | {"PYTHONPATH": paths}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines() if words is reduce else [done.stdout]
        assert all(json.loads(line) for line in lines)
        places = ("import", "check", "arrange", "a hook") if words is reduce else ("import",)
        for printed in (f"{who} prints in {place}" for who in ("python", "native code") for place in places):
            assert printed in done.stderr
        assert "a worker" not in done.stderr
