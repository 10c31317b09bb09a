"""Plugins in words, made from their models: what each does, its parameters with units, bounds and defaults."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from typing import Any, get_args

from ctkit.contracts import Plugin, Reducer
from ctkit.contracts.reducer import Scope
from ctkit.plugins import Entry


def describe_plugin(entry: Entry) -> str:
    """Return what ``ctkit describe`` prints. Raises ``PluginError`` where the plugin cannot be imported."""
    plugin = entry.load()
    lines = [f"{entry.kind} {entry.name} ({entry.distribution} {entry.version}): {entry.summary}", ""]
    lines += [*_homepage(entry), inspect.getdoc(plugin) or "", ""]
    if issubclass(plugin, Reducer):
        lines += [scopes(plugin), ""]
    lines += ["Parameters:" if plugin.params_type.model_fields else "Parameters: none"]
    for name, kind, default, meaning in parameters(plugin):
        stands = "required" if default == "required" else f"default {default}"
        lines += [f"  {name}  {kind}, {stands}", f"      {meaning}"]
    return "\n".join(lines)


def _homepage(entry: Entry) -> list[str]:
    """The line that says where a plugin's distribution is at home, none where its metadata do not."""
    found: dict[str, str] = {}
    with suppress(metadata.PackageNotFoundError):
        facts = metadata.metadata(entry.distribution)
        urls = (text.partition(",") for text in facts.get_all("Project-URL") or ())
        found = {label.strip().lower(): url.strip() for label, _, url in urls}
        found.setdefault("homepage", next(iter(facts.get_all("Home-page") or ()), ""))
    url = next(
        (found[label] for label in ("homepage", "documentation", "repository", "source") if found.get(label)), ""
    )
    return [f"Homepage: {url}", ""] if url else []


def parameters(plugin: type[Plugin[Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, default ("required" where there is none) and meaning of each parameter."""
    properties = plugin.params_type.model_json_schema().get("properties", {})
    for name, field in plugin.params_type.model_fields.items():
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield name, _kind(properties[name]), default, field.description or ""


def scopes(plugin: type[Reducer[Any]]) -> str:
    """What one decision of a reducer may cover."""
    found = [scope for scope in get_args(Scope) if scope in plugin.scopes]
    return f"Scopes: {', '.join(found)} (default {plugin.default_scope})"


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
