"""Code of an installed plugin that changed while its version did not is said, and ``--recompute`` uses the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.plugins import Entry, load_target
from ctkit.plugins.registry import in_file
from ctkit.session.code import digest_of

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


@pytest.mark.parametrize("changed", ["few/parts/choice.py", "beside.py", "base/part.py"])
def test_code_is_that_of_a_package_what_lies_beside_a_module_and_base_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """And of nothing else: ``other.py`` is not used."""
    files = {
        "few/__init__.py": "from base.part import Base\nclass Few(Base): ...\n",
        "few/parts/choice.py": "",
        "lone.py": "from few import Few\nfrom beside import half\nimport json\nclass Lone(Few): ...\n",
        "beside.py": "def half(): ...\n",
        "other.py": "",
        "base/__init__.py": "",
        "base/part.py": PLUGIN.partition("@hookimpl")[0].replace("Few", "Base"),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "file.py").write_text("from lone import Lone\nclass Mine(Lone): ...\n")
    for entry in (Entry("reducer", "lone", "", "few", "1", "lone:Lone"), *in_file(tmp_path / "apart" / "file.py")):
        before = digest_of(entry)
        (tmp_path / "other.py").write_text("x = 1\n")
        assert digest_of(entry) == before
        (tmp_path / changed).write_text(files[changed] + "\n# changed\n")
        assert digest_of(entry) != before
        (tmp_path / changed).write_text(files[changed])
        assert digest_of(entry) == before
    load_target.cache_clear()


def test_code_of_ours_is_not_looked_at() -> None:
    entry = next(entry for entry in plugins.load().entries if entry.name == "every-n")
    assert digest_of(entry) == ""
