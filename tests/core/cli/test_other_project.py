"""Distributions that are in each other's way: the other project called ctkit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.cli.other_project import other_project
from ctkit.hookspecs import DISTRIBUTION
from ctkit.pipeline_file.pipeline import Chosen
from ctkit.plugins import Entry

Install = Callable[..., None]
SAID = (
    "the package ctkit 0.1.1 is another project, and overwrites files of ctkit-ssl{}:"
    " pip uninstall ctkit, then pip install --force-reinstall --no-deps ctkit-ssl"
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a distribution without modules, as an installer would leave it on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, version: str, *requirements: str, entry_points: str = "") -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        needs = "".join(f"Requires-Dist: {text}\n" for text in requirements)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        (folder / "entry_points.txt").write_text(entry_points)

    return make


def test_nothing_is_said_of_ctkit_ssl_alone(install: Install) -> None:
    install("ctkit-other", "0.1.1")
    assert other_project() == ""


def test_another_project_called_ctkit_is_said_at_start_up_beside_what_was_asked_for(
    install: Install, command: Callable[..., tuple[int, str, str]]
) -> None:
    install("ctkit", "0.1.1", entry_points="[console_scripts]\nctkit = ctkit.cli:main\n")
    code, out, err = command("list-plugins", "--kind", "reducer", "--json")
    assert (code, err) == (0, f"ctkit: {SAID.format('')}\n")
    assert {plugin["distribution"] for plugin in json.loads(out)} == {DISTRIBUTION}


def test_a_plugin_that_brings_the_other_project_is_named(install: Install) -> None:
    point = "[ctkit]\nx = x\n"
    install("CTKit", "0.1.1")
    install("ctkit-new", "1", "numpy", "ctkit-ssl>=0.1", entry_points=point)
    install("ctkit-old", "1", "numpy", "CTkit[all]>=0.1 ; python_version > '3'", entry_points=point)
    assert other_project() == SAID.format(" (ctkit-old requires it and should require ctkit-ssl)")


def test_ours_under_its_former_name_is_not_another_project(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an editable installation from before the change of name leaves it."""
    monkeypatch.setattr(plugins, "load", plugins.load.__wrapped__)
    before = plugins.load().entries
    install("ctkit", "0.0.9", entry_points="[ctkit]\nctkit-reducers = ctkit_reducers\n")
    assert other_project() == ""
    after = plugins.load().entries
    assert [(entry.name, entry.status) for entry in after] == [(entry.name, entry.status) for entry in before]
    assert {entry.distribution for entry in after} == {entry.distribution for entry in before}


def test_results_and_pipelines_from_before_the_change_of_name_stay_valid() -> None:
    registry = plugins.load()
    entry = registry.find("reducer", "ctkit:hash")
    assert entry == registry.find("reducer", "ctkit-ssl:hash")
    assert Chosen(entry, entry.load().params_type()).identity["plugin"] == "ctkit:hash"
    theirs = Entry("reducer", "hash", "", "ctkit-mine", "1", entry.target)
    assert Chosen(theirs, entry.load().params_type()).identity["plugin"] == "ctkit-mine:hash"
