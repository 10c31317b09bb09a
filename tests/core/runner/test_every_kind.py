"""Plugins of every kind, in one file or from a wheel, in one pipeline: in worker processes, and on Dask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit.files import read_csv

Command = Callable[..., tuple[int, str, str]]

#: Put before the method ``Mean``, the task ``Coins`` and the protocol ``Guess`` of the fixture ``toys``.
MORE = '''\
"""A plugin of each kind, and who of them works in which process."""

import os
from pathlib import Path

from ctkit.contracts import Dataset, Decision, Params, Pixels, Reducer, SourceFile, Tracker, Volume, knob
from pydantic import Field


class HereParams(Params):
    log: Path = Field(json_schema_extra={"address": False})  # no result depends on it

    def note(self, what):
        with self.log.open("a") as file:
            print(what, os.getpid(), file=file)


class Made(Dataset[HereParams]):
    """Four volumes of six slices, each brighter than the one before."""

    def files(self):
        for name in "abcd":
            yield SourceFile(f"{name}/volume", 1, 1)

    def inspect(self, file):
        self.params.note("inspect")
        return {"first": ord(file.path[0])}

    def arrange(self, headers):
        for file, facts in headers:
            yield Volume(file.path, file.path[0], (file,), tuple((0, n) for n in range(6)), 16, 16, details=facts)

    def read(self, volume, wanted=None):
        self.params.note("read")
        index = np.arange(len(volume)) if wanted is None else wanted
        ramp = np.arange(256, dtype=np.int16).reshape(16, 16)
        values = np.stack([ramp + 40 * n + volume.details["first"] for n in index.tolist()]).astype(np.int16)
        return Pixels(values, index, "HU")


class FirstParams(HereParams):
    many: int = knob(3, low=1, high=99, unit="slices", description="how many")


class First(Reducer[FirstParams]):
    """Keeps the darkest slices of each group."""

    evidence = "slice"

    def describe(self, slices):
        self.params.note("describe")
        return slices.hu.mean(axis=(1, 2))

    def select(self, group, at, rng):
        return Decision(np.argsort(np.argsort(group.evidence)) < at)


class Told(Tracker[HereParams]):
    """Notes what it is told."""

    def start(self, run, parameters):
        self.params.note("start")
        self.lines = []

    def metric(self, item, name, value, step):
        self.lines.append(f"{item} {name}")

    def end(self, *, finished):
        self.params.note("end")
        self.params.log.with_suffix(".told").write_text("\\n".join([*self.lines, f"finished {finished}"]))


'''

PIPELINE = """\
[run]
name = "kinds"
[compute]
workers = 2
device = "cpu"
backend = "{backend}"
[plugins]
disable = ["ctkit-reports", "ctkit-tensorboard"]
[dataset]
use = "./plugins/kinds.py:Made"
log = "{log}"
size = 16
[[reduce]]
use = "all"
[[reduce]]
id = "mine"
use = "./plugins/kinds.py:First"
log = "{log}"
many = 2
[[pretrain]]
use = "./plugins/kinds.py:Mean"
[[task]]
use = "./plugins/kinds.py:Coins"
protocol = "./plugins/kinds.py:Guess"
[[track]]
use = "./plugins/kinds.py:Told"
log = "{log}"
"""


@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_plugins_of_every_kind_work_as_single_files(
    toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, backend: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTKIT_CACHE", raising=False)
    log = tmp_path / "log.txt"
    installed = (tmp_path / "site" / "toys.py").read_text()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "kinds.py").write_text(MORE + installed.partition("@hookimpl")[0])
    (tmp_path / "p.toml").write_text(PIPELINE.format(backend=backend, log=log.as_posix()))
    code, _, err = command("run", "p.toml")
    assert code == 0, err

    folder = tmp_path / "runs" / "kinds"
    facts = json.loads((folder / "run.json").read_text())
    ours = {one["kind"]: one for one in facts["plugins"] if one["distribution"] == "kinds.py"}
    names = {"dataset": "Made", "reducer": "First", "method": "Mean", "task": "Coins", "protocol": "Guess"}
    assert {kind: one["name"] for kind, one in ours.items()} == names | {"tracker": "Told"}
    assert len({one["code"] for one in ours.values()}) == 1
    kept = [row for row in read_csv(folder / "arms" / "mine" / "selection.csv") if row["kept"] == "true"]
    assert sorted((row["source"], row["index"]) for row in kept) == [(f"{v}/volume", n) for v in "abcd" for n in "01"]
    assert {row["arm"] for row in read_csv(folder / "results.csv")} == {"all", "mine"}
    told = log.with_suffix(".told").read_text().splitlines()
    assert told[-1] == "finished True"
    assert any("mine" in line and line.endswith("accuracy") for line in told)

    by: dict[str, set[int]] = {}
    for line in log.read_text().splitlines():
        by.setdefault(line.split()[0], set()).add(int(line.split()[1]))
    assert by["start"] == by["end"] == {os.getpid()}
    assert by.keys() == {"start", "end", "inspect", "read", "describe"}
    assert os.getpid() not in by["inspect"] | by["read"] | by["describe"], "workers, which are sent the file's source"
    log.unlink()
    code, _, err = command("run", "p.toml")
    assert code == 0, err
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["start", "end"], "nothing is done again"


PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"
[project]
name = "ctkit-kinds"
version = "1.0"
[project.entry-points.ctkit]
kinds = "kinds"
[tool.hatch.build.targets.wheel]
only-include = ["kinds.py"]
"""
KINDS = {
    "dataset": "Made", "reducer": "First", "method": "Mean", "task": "Coins", "protocol": "Guess", "tracker": "Told"
}  # fmt: skip


@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_plugins_of_every_kind_work_from_a_wheel(toys: None, tmp_path: Path, backend: str) -> None:
    project, library, log = tmp_path / "project", tmp_path / "library", tmp_path / "log.txt"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    hooks = "".join(
        f"@hookimpl\ndef ctkit_register_{kind}s():\n    return [Spec('{name.lower()}', 'a {kind}', 'kinds:{name}')]\n"
        for kind, name in KINDS.items()
    )
    toy = (tmp_path / "site" / "toys.py").read_text().partition("@hookimpl")[0]
    (project / "kinds.py").write_text(MORE + toy + hooks)
    options = ["--no-build-isolation", "--no-index", "--no-deps", "--target", str(library)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(project)], check=True, capture_output=True)
    text = PIPELINE.format(backend=backend, log=log.as_posix())
    for name in KINDS.values():
        text = text.replace(f"./plugins/kinds.py:{name}", name.lower())
    (tmp_path / "p.toml").write_text(text)
    environment = {key: value for key, value in os.environ.items() if key != "CTKIT_CACHE"} | {
        "PYTHONPATH": f"{library}"
    }

    def ctkit(*words: str) -> str:
        command = [sys.executable, "-m", "ctkit", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = {(one["kind"], one["name"]): one["status"] for one in json.loads(ctkit("list-plugins", "--json"))}
    assert {listed[kind, name.lower()] for kind, name in KINDS.items()} == {"ok"}
    ctkit("run", "p.toml", "--quiet")
    folder = tmp_path / "runs" / "kinds"
    kept = [row for row in read_csv(folder / "arms" / "mine" / "selection.csv") if row["kept"] == "true"]
    assert sorted((row["source"], row["index"]) for row in kept) == [(f"{v}/volume", n) for v in "abcd" for n in "01"]
    assert {row["arm"] for row in read_csv(folder / "results.csv")} == {"all", "mine"}
    assert log.with_suffix(".told").read_text().splitlines()[-1] == "finished True"
    assert {line.split()[0] for line in log.read_text().splitlines()} >= {"start", "end", "inspect", "read", "describe"}
    log.unlink()
    ctkit("run", "p.toml", "--quiet")
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["start", "end"], "nothing is done again"
