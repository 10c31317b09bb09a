"""Plugins in words, made from their models: what each does, its parameters with units, bounds and defaults."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from ctkit.contracts import Plugin, Reducer
from ctkit.plugins import Entry

_HEADINGS = {
    "dataset": "Data sets",
    "reducer": "Reducers",
    "method": "Methods",
    "task": "Tasks",
    "protocol": "Protocols",
}
_KINDS = list(_HEADINGS)


def describe_plugin(entry: Entry) -> str:
    """Return what ``ctkit describe`` prints. Raises ``PluginError`` where the plugin cannot be imported."""
    plugin = entry.load()
    lines = [f"{entry.kind} {entry.name} ({entry.distribution} {entry.version}): {entry.summary}", ""]
    lines += [inspect.getdoc(plugin) or "", ""]
    if issubclass(plugin, Reducer):
        lines += [*_reducer(plugin), ""]
    lines += ["Parameters:" if plugin.params_type.model_fields else "Parameters: none"]
    for name, kind, default, meaning in _parameters(plugin):
        stands = "required" if default == "required" else f"default {default}"
        lines += [f"  {name}  {kind}, {stands}", f"      {meaning}"]
    return "\n".join(lines)


def plugin_reference(entries: Iterable[Entry]) -> str:
    """Return a page of Markdown on plugins: what each does, and a table of its parameters. Trackers have none."""
    lines: list[str] = []
    told = [entry for entry in entries if entry.kind in _KINDS]
    for kind, group in groupby(
        sorted(told, key=lambda entry: (_KINDS.index(entry.kind), entry.name)), attrgetter("kind")
    ):
        lines += [f"## {_HEADINGS[kind]}", ""]
        for entry in group:
            plugin = entry.load()
            lines += [f"### `{entry.name}`", "", inspect.getdoc(plugin) or "", ""]
            if issubclass(plugin, Reducer):
                lines += [f"{line}.  " for line in _reducer(plugin)] + [""]
            lines += _table(plugin)
    return "\n".join(lines)


def _parameters(plugin: type[Plugin[Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, default ("required" where there is none) and meaning of each parameter."""
    properties = plugin.params_type.model_json_schema().get("properties", {})
    for name, field in plugin.params_type.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield name, _kind(properties[name]), default, field.description or ""


def _table(plugin: type[Plugin[Any]]) -> list[str]:
    rows = [(f"`{name}`", *others) for name, *others in _parameters(plugin)]
    if not rows:
        return ["It has no parameters.", ""]
    cells = [[cell.replace("|", r"\|").replace("<", "&lt;") for cell in row] for row in rows]
    return [
        "| parameter | values | default | meaning |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in cells),
        "",
    ]


def _reducer(plugin: type[Reducer[Any]]) -> list[str]:
    scopes = [scope for scope in ("volume", "patient", "dataset") if scope in plugin.scopes]
    return [f"Scopes: {', '.join(scopes)} (default {plugin.default_scope})"]


def _shown(value: Any) -> str:
    """A value as a pipeline file has it; "none" where it has nothing."""
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_shown, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else str(value)


def _kind(schema: dict[str, Any]) -> str:
    """A JSON Schema property in a few words: ``integer 1..64``, ``"a" | "b"``."""
    if "anyOf" in schema:
        return " | ".join(_kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(_shown(value) for value in schema["enum"])
    if "const" in schema:
        return _shown(schema["const"])
    kind = schema.get("format", schema.get("type", "value"))
    return "none" if kind == "null" else f"{kind}{_bounds(schema, kind)}"


def _bounds(schema: dict[str, Any], kind: str) -> str:
    """`` 1..64``; `` > 0, <= 1`` where a bound itself is no value."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if kind == "integer":
        low, above = low if above is None else above + 1, None
        high, below = high if below is None else below - 1, None
    if above is None and below is None:
        return "" if low is None and high is None else f" {'' if low is None else low}..{'' if high is None else high}"
    bounds = ((">", above), (">=", low), ("<", below), ("<=", high))
    return " " + ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
