"""Whether the code of plugins changed since their results were cached, though their version did not."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from ctkit.contracts import Plugin
from ctkit.errors import RequestError, nearest
from ctkit.hookspecs import DISTRIBUTION
from ctkit.pipeline_file import Chosen, Pipeline
from ctkit.plugins import Entry
from ctkit.storage import Cache, address

Value = TypeVar("Value")


@dataclass(frozen=True)
class CodeRecord:
    """What the cache knows of a plugin in one version."""

    code: str  #: digest of what its results were computed by, "" where that does not matter
    again: int = 0  #: how often its results were asked for anew


def digest_of(entry: Entry) -> str:
    """SHA-256 of what a plugin was written in; "" for ours, whose versions are kept.

    That is its file, or its package with those of the classes that it derives from.
    """
    if entry.distribution == DISTRIBUTION:
        return ""
    bases = [one.__module__ for one in entry.load().__mro__ if issubclass(one, Plugin)]
    packages = {
        name.partition(".")[0]: name for name in bases if not getattr(sys.modules.get(name), "_ctkit_source", None)
    }
    files = [file for top in sorted(packages.keys() - _ours()) for file in _files(top, packages[top])]
    if entry.source and not files:
        return entry.source.digest
    own = [entry.source.content] if entry.source else []
    return hashlib.sha256(b"\0".join([*own, *(one.read_bytes() for one in files)])).hexdigest() if files else ""


@cache
def _ours() -> set[str]:
    """Packages of ctkit that plugins derive from."""
    points = metadata.distribution(DISTRIBUTION).entry_points
    return {"ctkit", *(point.module.partition(".")[0] for point in points)}


def _files(top: str, name: str) -> list[Path]:
    """The Python files of the package ``top``; of a module in none, its own and those beside it that it imports."""
    found, module = (Path(getattr(sys.modules.get(one), "__file__", None) or "") for one in (top, name))
    if found.name == "__init__.py":
        return sorted(found.parent.rglob("*.py"))
    own = vars(sys.modules[name]) if name in sys.modules else {}
    used = {str(getattr(one, "__module__", getattr(one, "__name__", ""))) for one in own.values()}
    files = {Path(getattr(sys.modules.get(one), "__file__", None) or "") for one in used}
    return sorted({module, *(one for one in files if one.parent == module.parent)} - {Path()})


@dataclass(frozen=True)
class Code:
    """What is to be said of changes, and to be written to the cache once the run starts."""

    said: tuple[str, ...]
    learnt: tuple[tuple[str, CodeRecord], ...]

    def learn(self, cache: Cache) -> None:
        """Write to the cache what it is to know from now on."""
        for at, known in self.learnt:
            cache.write("code", at, known)


UNCHANGED = Code((), ())


def with_known_code(pipeline: Pipeline, cache: Cache, anew: Collection[str]) -> tuple[Pipeline, Code]:
    """Return a pipeline that finds what is cached of its plugins, but nothing of those called ``anew``.

    Raises ``RequestError`` where the pipeline uses no such plugin.
    """
    names = {one.entry.name for one in pipeline.plugins}
    for name in set(anew) - names:
        raise RequestError(f"--recompute {name}: the pipeline does not use it; {nearest(name, names)}")
    said, learnt, again = list[str](), list[tuple[str, CodeRecord]](), dict[Entry, int]()
    for chosen in {one.entry: one for one in pipeline.plugins}.values():
        entry, code = chosen.entry, digest_of(chosen.entry)
        at = address("code", kind=entry.kind, plugin=entry.address, version=chosen.identity["version"])
        known = cache.read("code", at, CodeRecord)
        now = known or CodeRecord(code)
        if entry.name in anew:
            now = CodeRecord(code, now.again + 1)
        elif now.code != code:
            said.append(
                f"the code of {entry.title} has changed since its results were cached, but its version has not: raise"
                f" `version` in the class, or run with --recompute {entry.name}"
            )
        if now != known:
            learnt.append((at, now))
        again[entry] = now.again
    return _replaced(pipeline, again), Code(tuple(said), tuple(learnt))


def _replaced(value: Value, again: dict[Entry, int]) -> Value:
    """The same with the entries of its plugins marked by how often their results were asked for anew."""
    made: Any = value
    if isinstance(value, Chosen):
        made = replace(value, entry=replace(value.entry, again=again[value.entry]))
    elif isinstance(value, tuple):
        made = tuple(_replaced(one, again) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        made = replace(value, **{field.name: _replaced(getattr(value, field.name), again) for field in fields(value)})
    return made  # type: ignore[no-any-return]  # of the same type
