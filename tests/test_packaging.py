"""The distribution: what the wheel holds, that it starts in an environment of its own, and what is pinned."""

from __future__ import annotations

import json
import re
import tomllib
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ctkit import __version__
from requirements import brought_by

PLUGINS = {
    *("ctkit_datasets", "ctkit_downloads", "ctkit_exporters", "ctkit_models", "ctkit_reducers", "ctkit_reports"),
    *("ctkit_tasks", "ctkit_trackers"),
}
PACKAGES = {"ctkit", "ctkit_formats", "ctkit_hashing", "ctkit_phantom", "ctkit_torch", *PLUGINS}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_the_wheel_holds_these_packages_and_nothing_else(ctkit_wheel):
    names = {name.partition("/")[0] for name in ZipFile(ctkit_wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_package_in_the_wheel_says_that_it_is_typed(ctkit_wheel, package):
    assert f"{package}/py.typed" in ZipFile(ctkit_wheel).namelist()


def test_the_wheel_holds_every_file_of_the_packages(ctkit_wheel, repository, project):
    folders = [repository / folder for folder in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    sources = {
        path.relative_to(folder.parent).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(ZipFile(ctkit_wheel).namelist())


def test_the_wheel_announces_the_built_in_plugins_as_a_third_party_does(ctkit_wheel):
    points = ConfigParser()
    points.read_string(_dist_info(ctkit_wheel, "entry_points.txt"))
    assert set(points["ctkit"].values()) == PLUGINS | {"ctkit_trackers.tensorboard"}


def test_the_wheel_carries_its_licence(ctkit_wheel):
    assert "License-Expression: Apache-2.0" in _dist_info(ctkit_wheel, "METADATA")
    assert "Apache License" in _dist_info(ctkit_wheel, "licenses/LICENSE")


def test_an_installed_wheel_starts_and_finds_its_own_plugins(environment, ctkit_wheel, tmp_path):
    environment.install(ctkit_wheel)
    assert environment.ctkit("--version", cwd=tmp_path).split()[-1] == __version__
    plugins = json.loads(environment.ctkit("list-plugins", "--json", cwd=tmp_path))
    ours = [plugin for plugin in plugins if plugin["distribution"] == "ctkit-ssl"]
    assert {plugin["kind"] for plugin in ours} == {
        *("dataset", "reducer", "method", "task", "protocol", "tracker", "command", "output", "listener")
    }
    assert [plugin for plugin in ours if plugin["status"] == "broken" or plugin["version"] != __version__] == []


def test_an_installed_wheel_is_what_its_environment_imports(environment, ctkit_wheel, tmp_path):
    environment.install(ctkit_wheel)
    code = f"for name in {sorted(PACKAGES)}: print(__import__(name).__file__)"
    files = environment.run(environment.python, "-c", code, cwd=tmp_path).stdout.split()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(tmp_path) for file in files)


def test_the_version_is_the_same_everywhere(project, repository):
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    changelog = (repository / "CHANGELOG.md").read_text()
    assert project["project"]["version"] == __version__ == metadata.version("ctkit-ssl") == citation["version"]
    assert f"## [{__version__}]" in changelog


def test_the_citation_prefers_the_paper(repository):
    paper = yaml.safe_load((repository / "CITATION.cff").read_text())["preferred-citation"]
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Wolf", "Payer", "Lisson", "Lisson", "Beer", "Götz", "Ropinski"]
    assert (paper["year"], paper["doi"]) == (2024, "10.1016/j.compbiomed.2024.109242")


def test_continuous_integration_runs_what_a_contributor_runs_on_every_python(repository, project):
    (job,) = yaml.safe_load((repository / ".github/workflows/test.yml").read_text())["jobs"].values()
    python = project["project"]["requires-python"]
    assert [version for version in job["strategy"]["matrix"]["python"] if version not in SpecifierSet(python)] == []
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])
    assert "\nmake test" in (repository / ".ci/run").read_text()


def test_commit_hooks_use_the_tools_that_make_installs(repository, project):
    (source,) = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"]
    tools = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in source["hooks"]}
    assert tools <= {Requirement(text).name for text in project["project"]["optional-dependencies"]["dev"]}


def test_constraints_pin_by_name_and_version_only(repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    assert lines == sorted(lines, key=lambda line: canonicalize_name(line.partition("==")[0]))


def test_constraints_meet_every_requirement_of_the_project(project, pins):
    extras = project["project"]["optional-dependencies"]
    wanted = [Requirement(text) for text in _own_requirements(project, *extras)]
    unmet = [str(need) for need in wanted if pins.get(canonicalize_name(need.name), "") not in need.specifier]
    assert unmet == []


def test_constraints_pin_everything_that_an_installation_brings(project, pins):
    """Walks the requirements of what is installed, for this Python and platform."""
    installed = _own_requirements(project, "train", "dask", "dev", "docs", "onnx", "timm")
    assert brought_by(installed) - pins.keys() == set()


def _own_requirements(project: dict, *extras: str) -> list[str]:
    optional = project["project"]["optional-dependencies"]
    return [*project["project"]["dependencies"], *(text for extra in extras for text in optional[extra])]


def _dist_info(wheel: Path, name: str) -> str:
    with ZipFile(wheel) as archive:
        return archive.read(f"ctkit_ssl-{__version__}.dist-info/{name}").decode()
