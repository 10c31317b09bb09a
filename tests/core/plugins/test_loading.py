"""A plugin in one file, which is not installed: found, named, run in other processes, and watched for changes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.compute.worker import pickled, source_of
from ctkit.errors import PluginError
from ctkit.plugins import Entry, Registry

Command = Callable[..., tuple[int, str, str]]

REDUCER = '''\
"""Two reducers and what they share."""

from __future__ import annotations

import numpy as np

from ctkit.contracts import Decision, NoParams, Params, Reducer, knob


class FirstParams(Params):
    many: int = knob(3, low=1, high=99, unit="slices", description="how many")


class First(Reducer[FirstParams]):
    """Keeps the first slices of each group."""

    evidence = "slice"

    def describe(self, slices):
        return slices.index.astype(float)

    def select(self, group, at, rng):
        return Decision(np.argsort(np.argsort(group.evidence)) < at)


class Nothing(Reducer[NoParams]):
    """Keeps nothing."""

    def select(self, group, at, rng):
        return Decision(np.zeros(len(group), bool))
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my plugins" / "first: one.py"
    path.parent.mkdir()
    path.write_text(REDUCER)
    return path


def find(use: str, base: Path, kind: str = "reducer") -> Entry:
    return Registry().find(kind, use, base)  # type: ignore[arg-type]  # a kind


def test_a_class_is_found_by_a_path_that_is_relative_or_not(file: Path) -> None:
    entry = find("my plugins/first: one.py:First", file.parent.parent)
    assert entry == find(f"{file}:First", Path("/nowhere"))
    assert entry == find(f"../{file.parent.name}/{file.name}:First", file.parent)
    assert (entry.kind, entry.name, entry.distribution, entry.status) == ("reducer", "First", "first: one.py", "ok")
    assert entry.summary == "Keeps the first slices of each group"
    assert entry.use == f"{file}:First"
    assert entry.load().__name__ == "First"
    assert entry.source is not None
    assert entry.version == entry.source.digest[:12]
    assert entry.source.digest in entry.address


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            "nowhere.py:First",
            "cannot read the plugin file .*nowhere.py: No such file.*; put it there",
        ),
        ("./first: one.py:Frist", r"Frist of first: one.py is not there; did you mean 'First'\?"),
        ("./first: one.py:FirstParams", "FirstParams of first: one.py is no plugin: it derives from none"),
        ("./first: one.py:np", "np of first: one.py is no plugin"),
        ("./first: one.py", "has 2 plugins of kind reducer: write ./first: one.py:First or ./first: one.py:Nothing"),
    ],
)
def test_what_is_not_in_a_file_is_said(file: Path, use: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        find(use, file.parent)


def test_a_class_that_another_derives_from_is_used_where_it_is_named(file: Path) -> None:
    file.write_text(f"{REDUCER}\n\nclass Second(First):\n    pass\n\n\ndel Nothing\n")
    assert find(f"{file}:First", file.parent).name == "First"
    assert find(f"{file}", file.parent).name == "Second"


def test_a_plugin_of_another_kind_is_said(file: Path) -> None:
    with pytest.raises(PluginError, match=r"there is no task 'First' in first: one.py: it is a reducer"):
        find(f"{file}:First", file.parent, "task")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def broken(:", r"p.py cannot be imported: SyntaxError: invalid syntax \(p.py, line 1\)"),
        ("\n\nraise SystemExit(3)", r"p.py cannot be imported: SystemExit: 3 \(line 3\)"),
        ("class E(BaseException): ...\nraise E('no')", r"p.py cannot be imported: E: no \(line 2\)"),
        ("import beside", "p.py imports beside, which lies beside it, but only this file is sent to workers"),
        (
            "from . import beside",
            "p.py cannot be imported: ImportError: attempted relative import with no known parent",
        ),
        ("import nowhere", "p.py cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1", "p.py has no reducer; derive a class from one of ctkit.contracts"),
        ("\x00", "p.py cannot be imported: "),
    ],
)
def test_a_file_that_is_none_of_plugins_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "beside.py").write_text("x = 1")
    (tmp_path / "p.py").write_text(text)
    with pytest.raises(PluginError, match=message) as caught:
        find("p.py", tmp_path)
    assert "\n" not in str(caught.value)


def test_classes_of_one_name_in_two_files_are_two(tmp_path: Path, file: Path) -> None:
    (tmp_path / "other.py").write_text(REDUCER.replace("< at", ">= at"))
    one, other = find(f"{file}:First", tmp_path), find("other.py:First", tmp_path)
    assert one.load() is not other.load()
    assert one.address != other.address


def test_an_edit_makes_another_plugin_and_the_same_text_elsewhere_does_not(file: Path, tmp_path: Path) -> None:
    before = find(f"{file}:First", tmp_path)
    copy = tmp_path / "copy.py"
    copy.write_text(REDUCER)
    assert find("copy.py:First", tmp_path).address == before.address
    file.write_text(REDUCER + "# more\n")
    assert find(f"{file}:First", tmp_path).address != before.address


def test_another_process_needs_no_file(file: Path, tmp_path: Path) -> None:
    """Neither for an entry nor for what is made of its classes."""
    entry = find(f"{file}:First", tmp_path)
    first = entry.load()
    sent = [(entry, first()), first.params_type(many=7), first.describe, {"late": first}]
    contents = [pickled(thing) for thing in sent]
    file.unlink()
    code = "import pickle, sys; print(*(pickle.loads(one) for one in pickle.load(sys.stdin.buffer)), sep='|')"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(contents), capture_output=True, check=True)
    pair, params, function, classes = done.stdout.decode().strip().split("|")
    assert "First object" in pair
    assert params == "many=7"
    assert function.startswith("<function First.describe")
    assert "ctkit_file_" in classes


def test_what_is_installed_is_sent_by_name() -> None:
    assert source_of(Registry) is None
    assert b"class Registry" not in pickled(Registry)


PIPELINE = """\
[run]
name = "small"
[compute]
workers = 1
{compute}
[dataset]
use = "phantom"
patients = 2
slices = 6
size = 32
matrix = 32
[[reduce]]
id = "mine"
use = "./my plugins/first: one.py:First"
[[reduce]]
id = "other"
use = "another.py:First"
"""


@pytest.mark.parametrize("compute", ["", 'backend = "dask"'], ids=["processes", "dask"])
def test_a_run_uses_a_file_notices_its_edit_and_says_when_it_is_gone(
    file: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, compute: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(PIPELINE.format(compute=compute))
    (tmp_path / "another.py").write_text(REDUCER.replace("< at", ">= at"))
    code, _, err = command("run", str(pipeline), "--until", "select")
    assert code == 0, err
    facts = json.loads(Path("runs/small/run.json").read_text())
    other, used = [plugin for plugin in facts["plugins"] if plugin["kind"] == "reducer"]
    assert (other["name"], other["distribution"]) == ("First", "another.py")
    assert (used["name"], used["distribution"]) == ("First", "first: one.py")
    assert used["code"].startswith(used["version"])
    assert json.loads(Path("runs/small/arms/mine/arm.json").read_text())["kept"] == 6
    assert "nothing to do" in command("run", str(pipeline), "--until", "select")[1]
    if compute:
        return
    assert command("curve", "runs/small", "mine")[0] == 0
    file.write_text(REDUCER.replace("< at", "< at - 1"))
    assert "has changed since the run in runs/small, whose results are of" in command("curve", "runs/small", "mine")[2]
    assert "nothing to do" not in command("run", str(pipeline), "--until", "select")[1]
    assert json.loads(Path("runs/small/arms/mine/arm.json").read_text())["kept"] == 4
    file.unlink()
    code, _, err = command("curve", "runs/small", "mine")
    assert code == 2
    assert "cannot read the plugin file" in err
    shown = "".join(path.read_text() for path in Path("runs/small").rglob("*") if path.suffix in (".csv", ".log"))
    assert str(tmp_path) not in shown


def test_the_registry_keeps_no_plugin_of_a_file(file: Path) -> None:
    before = list(plugins.load().entries)
    plugins.load().find("reducer", f"{file}:First")
    assert plugins.load().entries == before
