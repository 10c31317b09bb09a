"""A pipeline file as text: TOML read, keys changed by ``--set``, and the lines that errors point at."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ctkit.errors import ConfigError, RequestError, nearest
from ctkit.pipeline_file import Pipeline, resolve
from ctkit.plugins import Registry
from ctkit.runner.trackers import asked_for


def load(
    pipeline: str | Path | Mapping[str, Any],
    registry: Registry,
    changes: Sequence[str] = (),
    out: str | Path | None = None,
) -> Pipeline:
    """Read a pipeline file, or take its tables. ``out`` is where its results go, in place of what it says.

    ``changes`` are ``a.b=c``; ``reduce.hash6.threshold=4`` names a table by its id. Raises ``RequestError`` where the
    file cannot be read and ``ConfigError`` with everything that is wrong in it.
    """
    if isinstance(pipeline, Mapping):
        text, document, base, source = "", plain(pipeline), Path.cwd(), "pipeline"
    else:
        base, source = Path(pipeline).absolute().parent, str(pipeline)
        text, document = _read(Path(pipeline))
    for change in changes:
        override(document, change)
    follow(document, registry)
    _refuse_versions(document, source, partial(line_of, text))
    found = resolve(document, registry, base, source, partial(line_of, text))
    return found if out is None else replace(found, run=found.run.model_copy(update={"out": Path(out).absolute()}))


def plain(value: Any) -> Any:
    """Return what Python gives as TOML would: tables as dicts, sequences as lists, numpy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}:{_syntax(text, str(error))}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text: save it as UTF-8 in your editor"
        raise RequestError(f"cannot read the pipeline file {path}: {reason}") from error


def _refuse_versions(document: Mapping[str, Any], source: str, line: Callable[[tuple[str | int, ...]], int]) -> None:
    """Raise ``ConfigError`` where a version that a pipeline requires is not there: that may explain other mistakes."""
    rules = document.get("plugins")
    wanted = rules.get("require") if isinstance(rules, Mapping) else None
    places = [(("plugins", "require", n), text) for n, text in enumerate(wanted if isinstance(wanted, list) else ())]
    faults = [(line(place), place[2], unmet(text)) for place, text in places if isinstance(text, str)]
    if found := [f"{source}:{at}: plugins.require[{n}]: {fault}" for at, n, fault in faults if fault]:
        raise ConfigError(*(one.replace(":0: ", ": ", 1) for one in found))


def unmet(text: str) -> str:
    """Say what is wrong with a requirement such as ``"ctkit-barlow-twins>=1.2"``; "" where it is met."""
    from packaging.requirements import InvalidRequirement, Requirement  # slow to import

    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return f'must be a distribution and its versions, such as "ctkit-barlow-twins>=1.2" but is {text!r}'
    found = next((one.version for one in metadata.distributions(name=wanted.name)), None)
    if found is not None and wanted.specifier.contains(found, prereleases=True):
        return ""
    there = f"the version here is {found}" if found else "it is not installed"
    return f"{wanted.name} is required in version {wanted.specifier or 'any'} but {there}: pip install '{text}'"


def follow(document: dict[str, Any], registry: Registry) -> None:
    """Add the trackers that the environment asks for to those of a document."""
    tables = document.setdefault("track", [])
    if isinstance(tables, list):  # else the resolver says what is wrong
        named = {str(table.get("use")).rpartition(":")[2] for table in tables if isinstance(table, dict)}
        document["track"] = [*tables, *(table for table in asked_for(registry) if table["use"] not in named)]


def _syntax(text: str, message: str) -> str:
    """What tomllib says of a text that is no TOML, its line first, with a hint where a Windows path may be to blame."""
    what, _, at = message.rpartition(" (at ")
    lines, numbers = text.rstrip("\n").split("\n"), re.findall(r"\d+", at)
    line = min(int(numbers[0]), len(lines)) if numbers else len(lines)
    quoted = re.search(r"\"[^\"]*\\", lines[line - 1])
    hint = "; write a Windows path as 'C:\\data', in single quotes, or with /" if quoted else ""
    column = f" (column {numbers[1]})" if numbers else ""
    return f"{line}: not valid TOML: {what}{column}{hint or ('; save the file as UTF-8' if chr(0) in text else '')}"


def override(document: dict[str, Any], change: str, option: str = "--set") -> None:
    """Change one key of a document by an option: ``a.b=c``. Raises ``RequestError`` where there is no such place."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        example = "dataset.size=128" if option == "--set" else "threshold=4"
        raise RequestError(f"{option} needs KEY=VALUE, such as {example}, but is {change!r}")
    *tables, last = key.strip().split(".")
    here: Any = document
    for name in tables:
        here = _enter(here, name, f"{option} {change}")
    if not isinstance(here, dict):
        raise RequestError(f"{option} {change}: {'.'.join(tables)} is not a table")
    try:
        here[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        here[last] = value


def parameters(changes: Sequence[str], option: str) -> dict[str, Any]:
    """Return what an option that may be repeated gives: ``a.b=c`` each. Raises ``RequestError`` as ``override``."""
    document: dict[str, Any] = {}
    for change in changes:
        override(document, change, option)
    return document


def _enter(table: Any, name: str, change: str) -> Any:
    if isinstance(table, list):
        by_name = {str(item.get("id", item.get("use"))): item for item in reversed(table) if isinstance(item, dict)}
        if name.isdigit() and int(name) < len(table):
            return table[int(name)]
        if name in by_name:
            return by_name[name]
        raise RequestError(f"{change}: there is no {name!r}; {nearest(name, by_name)}")
    if not isinstance(table, dict):
        raise RequestError(f"{change}: what should hold {name!r} is not a table")
    return table.setdefault(name, {})


# --- lines, which tomllib does not keep ----------------------------------------------------------------------------


def line_of(text: str, location: tuple[str | int, ...]) -> int:
    """Return the line of the innermost part of ``location`` that has a line of its own, 0 where none has."""
    return max(((_depth(document, location), -line) for line, document in _beginnings(text)), default=(0, 0))[1] * -1


def _depth(value: Any, location: tuple[str | int, ...]) -> int:
    """How many parts of a location a document has."""
    for depth, part in enumerate(location):
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        if part not in keys:
            return depth
        value = value[part]
    return len(location)


@cache
def _beginnings(text: str) -> list[tuple[int, dict[str, Any]]]:
    """What is known after each statement of a text, with the line that the statement begins on."""
    lines, found, first = text.split("\n"), [(0, dict[str, Any]())], 1
    for number in range(1, len(lines) + 1):
        with suppress(tomllib.TOMLDecodeError):  # it ends inside a statement
            found.append((first, tomllib.loads("\n".join(lines[:number]))))
            first = number + 1
    return found
