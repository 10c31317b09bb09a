"""The house has walls: what the import contracts of ``make lint`` cannot see, and that they see every package.

Which module may import which is stated in ``pyproject.toml`` under ``tool.importlinter``.
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Rooms and modules that make the core proper: what everything else, ours included, is a plugin to.
CORE = (
    "contracts",
    "console",
    "storage",
    "plugins",
    "pipeline_file",
    *("errors.py", "files.py", "hookspecs.py", "stopping.py"),
)
LINES = 4_000
#: Loose modules of ``ctkit``: what plugin authors import, and how it starts.
LOOSE = {"__init__", "__main__", "errors", "files", "hookspecs", "stopping"}
#: Where modules are imported by names that are not in the code: the plugin loader, and the table of commands by it.
LOADERS = {"core/ctkit/loading/__init__.py"}
DYNAMIC = {"import_module", "__import__", "resolve_name", "run_module", "run_path", "exec", "exec_module"}


@pytest.fixture(scope="module")
def contracts(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]


def product(repository: Path) -> Iterator[Path]:
    for part in ("core", "plugins"):
        yield from sorted((repository / part).rglob("*.py"))


def test_the_core_proper_stays_small(repository: Path) -> None:
    parts = [repository / "core" / "ctkit" / part for part in CORE]
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*.py"))]
    assert sum(file.read_text().count("\n") for file in files) <= LINES


def test_only_what_plugin_authors_import_lies_loose_in_the_core(repository: Path) -> None:
    assert {file.stem for file in (repository / "core" / "ctkit").glob("*.py")} == LOOSE


def test_modules_are_imported_by_name_in_the_plugin_loader_alone(repository: Path) -> None:
    found = {
        file.relative_to(repository).as_posix()
        for file in product(repository)
        for node in ast.walk(ast.parse(file.read_text()))
        if {getattr(node, "attr", ""), getattr(node, "id", "")} & DYNAMIC
    }
    assert found == LOADERS


def test_every_package_is_under_the_import_contracts_and_nothing_is_excepted(repository: Path, contracts: dict) -> None:
    packages = {"ctkit", *(file.parent.name for file in (repository / "plugins").glob("*/*/__init__.py"))}
    assert set(contracts["root_packages"]) == packages
    assert not any("ignore_imports" in contract for contract in contracts["contracts"])
    plugins = packages - {"ctkit"}
    assert any(set(contract.get("source_modules", ())) == plugins for contract in contracts["contracts"])


def test_every_room_of_the_core_is_closed_to_plugins(repository: Path, contracts: dict) -> None:
    rooms = {f"ctkit.{file.parent.name}" for file in (repository / "core" / "ctkit").glob("*/__init__.py")}
    (closed,) = [one for one in contracts["contracts"] if "ctkit.session" in one.get("forbidden_modules", ())]
    assert set(closed["forbidden_modules"]) == rooms - {"ctkit.contracts"}


def test_no_class_of_the_core_has_the_name_of_another(repository: Path) -> None:
    names = Counter(
        node.name
        for file in sorted((repository / "core").rglob("*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_every_room_says_what_lives_there(repository: Path) -> None:
    for file in (repository / "core" / "ctkit").glob("*/__init__.py"):
        assert len(ast.get_docstring(ast.parse(file.read_text())) or "") > 60, file
