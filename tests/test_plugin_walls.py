"""What the packages of plugins import, inside functions and for type checkers too: no more than is stated here."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

DOORS = {
    *("ctkit.contracts", "ctkit.contracts.rendering", "ctkit.errors", "ctkit.files", "ctkit.hookspecs"),
    "ctkit.stopping",
}
BELOW = {
    "ctkit_datasets": {"ctkit_phantom"},
    "ctkit_exporters": set(),
    "ctkit_hashing": set(),
    "ctkit_models": {"ctkit_hashing", "ctkit_torch"},
    "ctkit_phantom": set(),
    "ctkit_reducers": {"ctkit_hashing", "ctkit_torch"},
    "ctkit_reports": set(),
    "ctkit_tasks": {"ctkit_hashing", "ctkit_phantom", "ctkit_torch"},
    "ctkit_torch": set(),
    "ctkit_trackers": set(),
}
#: What is still imported past the doors.
LEFT = {
    "ctkit_models.cluster": {"ctkit.cli.commands", "ctkit.compute.worker"},
    "ctkit_models.processes": {"ctkit.compute", "ctkit.compute.worker"},
    "ctkit_models.trainer": {"ctkit.compute"},
}
READERS = {"ctkit_exporters", "ctkit_reports"}  #: see whole runs, for which there is no door yet


@pytest.fixture(scope="module")
def imports(repository: Path) -> dict[str, set[str]]:
    """The modules of ctkit and its plugins that each module of a plugin imports."""
    core, plugins = (
        (repository / name).glob(pattern) for name, pattern in (("core", "ctkit"), ("plugins", "*/ctkit_*"))
    )
    files = {_module(file, package): file for package in (*core, *plugins) for file in package.rglob("*.py")}
    return {
        module: _imported(file, files.keys()) - {module}
        for module, file in files.items()
        if module.partition(".")[0] != "ctkit"
    }


def test_no_module_of_a_plugin_imports_one_that_imports_it(imports: dict[str, set[str]]) -> None:
    TopologicalSorter(imports).prepare()  # raises ``CycleError``, which names the modules of a circle


def test_a_package_of_plugins_imports_only_those_below_it(imports: dict[str, set[str]]) -> None:
    found: dict[str, set[str]] = {}
    for module, imported in imports.items():
        package = module.partition(".")[0]
        others = {name.partition(".")[0] for name in imported} - {package, "ctkit"}
        found[package] = found.get(package, set()) | others
    assert found == BELOW


def test_plugins_reach_the_core_by_its_doors(imports: dict[str, set[str]]) -> None:
    past = {
        module: {name for name in imported if name.partition(".")[0] == "ctkit"} - DOORS
        for module, imported in imports.items()
        if module.partition(".")[0] not in READERS
    }
    assert {module: names for module, names in past.items() if names} == LEFT


def _module(file: Path, package: Path) -> str:
    return ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def _imported(file: Path, modules: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in names}
    return found & modules
