"""Code of an installed plugin that changed while its version did not is said, and ``--recompute`` uses the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PLUGIN = """\
import numpy as np
from ctkit.contracts import Decision, NoParams, Reducer
from ctkit.hookspecs import Spec, hookimpl

class Few(Reducer[NoParams]):
    def select(self, group, at, rng):
        return Decision(np.arange(len(group)) < 1)

@hookimpl
def ctkit_register_reducers():
    return [Spec("few", "keeps one", "few:Few")]
"""
PIPELINE = """\
[run]
name = "small"
[compute]
workers = 1
[dataset]
use = "phantom"
patients = 2
slices = 6
size = 32
matrix = 32
[[reduce]]
use = "few"
"""


def test_a_changed_plugin_is_noticed_and_recomputed(tmp_path: Path) -> None:
    info = tmp_path / "site" / "few-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: few\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nfew = few\n")
    (tmp_path / "site" / "few.py").write_text(PLUGIN)
    (tmp_path / "p.toml").write_text(PIPELINE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("CTKIT_CACHE", None)

    def run(*more: str) -> str:
        words = [sys.executable, "-m", "ctkit", "run", "p.toml", "--until", "select", *more]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def kept() -> int:
        kept: int = json.loads((tmp_path / "runs/small/arms/few/arm.json").read_text())["kept"]
        return kept

    run()
    assert kept() == 2
    (tmp_path / "site" / "few.py").write_text(PLUGIN.replace("< 1", "< 2"))
    said = run()
    assert "the code of reducer 'few' of few has changed since its results were cached, but its version has not" in said
    assert "run with --recompute few" in said
    assert kept() == 2
    assert "has changed since" not in run("--recompute", "few")
    assert kept() == 4
    assert "nothing to do" in run()
    assert "--recompute fwe: the pipeline does not use it; did you mean 'few'?" in run("--recompute", "fwe")
