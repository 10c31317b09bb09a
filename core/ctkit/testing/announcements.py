"""What a distribution promises: modules that import in milliseconds, and specs that lead to classes of their kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata

from ctkit import plugins
from ctkit.contracts import BASES
from ctkit.contracts.judge import Judge
from ctkit.hookspecs import DISTRIBUTION, PROJECT, Kind, Spec
from ctkit.testing.plugins import NonConformance

#: What a module that only announces plugins must not import: each takes longer than all of ctkit.
HEAVY = ("torch", "monai", "lightly", "matplotlib", "sklearn", "skimage")

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_SUMMARY = 88  # characters: a line of `ctkit list-plugins`


def check_distribution(name: str) -> None:
    """Check what an installed distribution announces under the entry-point group ``ctkit``.

    Raises ``NonConformance`` for a module that is slow to import or broken, and for every fault of a spec.
    """
    judge = Judge(name, NonConformance)
    modules = _modules(judge, name)
    _check_light(judge, modules)
    entries = [entry for entry in plugins.load().entries if entry.distribution == name]
    judge.must(
        entries,
        "a distribution must register at least one plugin, but it registers none;"
        " return specs from ctkit_register_reducers or another register hook, and mark it with @hookimpl",
    )
    for entry in entries:
        judge.must(
            entry.status not in ("broken", "clash"),
            f"plugin {entry.name!r} must be usable, but {entry.error}; see there",
        )
        kind = next((kind for kind in BASES if kind == entry.kind), None)
        if kind:
            check_spec(Spec(entry.name, entry.summary, entry.target), kind)
        elif entry.kind == "command":
            with judge.keeping("a command must be one of click's", "decorate its function with @click.command()"):
                entry.load_command()
    _check_extras(judge, name)


def check_spec(spec: Spec, kind: Kind) -> None:
    """Check one spec: its name, its summary, and that its target is a class of its kind."""
    judge = Judge(spec.name, NonConformance)
    judge.must(
        _NAME.fullmatch(spec.name),
        f"a name must be lower-case words or numbers, joined by hyphens, but it is {spec.name!r}; rename it",
    )
    judge.must(
        spec.summary and "\n" not in spec.summary and len(spec.summary) <= _LONGEST_SUMMARY,
        f"a summary must be one line of at most {_LONGEST_SUMMARY} characters,"
        f" but it is {spec.summary!r}; describe it in a few words; put details into the class's docstring",
    )
    with judge.keeping("the target must be importable", 'write "module:Class"'):
        target = plugins.load_target(spec.target)
    base = BASES[kind]
    judge.must(
        issubclass(target, base),
        f"a {kind} must be a subclass of ctkit.contracts.{base.__name__},"
        f" but {spec.target} is none; derive from it, or register it by another hook than ctkit_register_{kind}s",
    )


def _check_extras(judge: Judge, name: str) -> None:
    known = {
        extra
        for owner in (name, DISTRIBUTION)
        for found in metadata.distributions(name=owner)
        for extra in found.metadata.get_all("Provides-Extra", ())
    }
    for registered, module in plugins.load().manager.list_name_plugin():
        hooks = [hook for hook in vars(module) if hook.startswith(f"{PROJECT}_register_")]
        for spec in (spec for hook in hooks for spec in vars(module)[hook]() if registered.startswith(f"{name}:")):
            judge.must(
                spec.requires in ("", *known),
                f"plugin {spec.name!r} must require an extra of {name} or of {DISTRIBUTION},"
                f" but there is no extra {spec.requires!r};"
                f" write one of {', '.join(sorted(known))}, or add it to [project.optional-dependencies]",
            )


def _modules(judge: Judge, name: str) -> list[str]:
    with judge.keeping("a distribution must be installed to be checked", "pip install it"):
        distribution = metadata.distribution(name)
    judge.must(
        not any(re.match(rf"{PROJECT}(?![\w.-])", text, re.IGNORECASE) for text in distribution.requires or ()),
        f"a plugin distribution must not require {PROJECT!r}, which is another project on the package index,"
        f' but it does; write dependencies = ["{DISTRIBUTION}"] in its pyproject.toml',
    )
    points = distribution.entry_points.select(group=PROJECT)
    judge.must(
        len(points),
        f"a plugin distribution must have an entry point in the group {PROJECT!r}, but there is none;"
        f' add [project.entry-points.{PROJECT}] with a line such as {name} = "module", and install it again',
    )
    return [point.module for point in points]


def _check_light(judge: Judge, modules: list[str]) -> None:
    code = f"""
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
print()  # whatever a module printed ends here
print(*(heavy for heavy in {HEAVY!r} if heavy in sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, *modules]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  # ours
    judge.must(
        done.returncode == 0,
        f"the module of an entry point must be importable, but {''.join(done.stderr.strip().splitlines()[-1:])};"
        " run `python -c 'import ...'` to see where",
    )
    imported = done.stdout.splitlines()[-1:] or [""]
    judge.must(
        not imported[0],
        f"a module that registers plugins must not import {', '.join(HEAVY)}, but {' and '.join(modules)}"
        f" import {imported[0]}; put the classes into another module; Spec.target finds them there",
    )
