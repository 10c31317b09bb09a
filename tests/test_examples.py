"""The examples: pipeline files are valid, and third-party plugins come, work and go like any plugin."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PIPELINE = """
[run]
name = "fifths"

[dataset]
use = "phantom"
size = 64

[[reduce]]
use = "all"

[[reduce]]
id = "fifths"
use = "every-kth"
k = 5
offset = 2
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "fifths.toml"
    path.write_text(PIPELINE)
    return path


@pytest.fixture(scope="module")
def with_plugin(new_environment, tmp_path_factory, ctkit_wheel, every_kth_wheel, barlow_twins_wheel, kept_share_wheel):
    environment = new_environment(tmp_path_factory.mktemp("with-plugin"))
    for wheel in (ctkit_wheel, every_kth_wheel, barlow_twins_wheel, kept_share_wheel):
        environment.install(wheel)
    return environment


def reducers(environment, folder: Path) -> dict[str, dict]:
    listed = json.loads(environment.ctkit("list-plugins", "--kind", "reducer", "--json", cwd=folder))
    return {plugin["name"]: plugin for plugin in listed}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_example_pipelines_are_valid(path, ctkit):
    done = ctkit("validate", path)
    assert done.returncode == 0, done.stderr


def test_a_third_party_reducer_is_listed_once_installed(with_plugin, tmp_path):
    plugin = reducers(with_plugin, tmp_path)["every-kth"]
    assert (plugin["distribution"], plugin["status"], plugin["error"]) == ("ctkit-every-kth", "ok", "")
    assert "offset" in with_plugin.ctkit("describe", "reducer", "every-kth", cwd=tmp_path)


def test_a_third_party_reducer_chooses_in_a_run(with_plugin, pipeline, tmp_path):
    with_plugin.ctkit("run", pipeline, "--until", "select", cwd=tmp_path)
    with (tmp_path / "runs/fifths/arms/fifths/selection.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all((row["kept"] == "true") == (int(row["index"]) % 5 == 2) for row in rows)


def test_a_third_party_command_is_shown_and_works_on_a_run(with_plugin, pipeline, tmp_path):
    with_plugin.ctkit("run", pipeline, "--until", "select", cwd=tmp_path)
    assert with_plugin.ctkit("kept", "runs/fifths", cwd=tmp_path).splitlines()[0] == "100.00%  all"
    assert "\n  kept " in with_plugin.ctkit("--help", cwd=tmp_path)


def test_a_third_party_command_is_short():
    source = (EXAMPLES / "ctkit-kept-share" / "ctkit_kept_share.py").read_text()
    assert len([line for line in source.splitlines() if line]) <= 15


def test_a_third_party_reducer_is_gone_once_uninstalled(environment, ctkit_wheel, every_kth_wheel, pipeline, tmp_path):
    environment.install(ctkit_wheel)
    environment.install(every_kth_wheel)
    environment.pip("uninstall", "--yes", "ctkit-every-kth")
    assert "every-kth" not in reducers(environment, tmp_path)
    command = [environment.scripts / "ctkit", "run", pipeline, "--until", "select"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "every-kth" in done.stderr
    assert "every-n" in done.stderr


def test_a_third_party_method_is_listed_and_described_with_the_parameters_of_all(with_plugin, tmp_path):
    assert "barlow-twins" in with_plugin.ctkit("list-plugins", "--kind", "method", cwd=tmp_path)
    described = with_plugin.ctkit("describe", "method", "barlow-twins", cwd=tmp_path)
    assert all(name in described for name in ("redundancy", "backbone", "checkpoint_minutes"))


@pytest.mark.parametrize("name", ["ctkit-barlow-twins", "ctkit-every-kth", "ctkit-kept-share"])
def test_a_third_party_plugin_passes_its_own_tests(with_plugin, name, tmp_path):
    command = (with_plugin.python, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", EXAMPLES / name)
    done = with_plugin.run(*command, cwd=tmp_path)
    assert " passed" in done.stdout
