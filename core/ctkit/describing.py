"""A plugin in words: what it does, its parameters with units, bounds and defaults."""

from __future__ import annotations

import inspect
from typing import Any

from ctkit.contracts import Reducer
from ctkit.plugins import Entry


def describe_plugin(entry: Entry) -> str:
    """Return what ``ctkit describe`` prints. Raises ``PluginError`` where the plugin cannot be imported."""
    plugin = entry.load()
    lines = [f"{entry.kind} {entry.name} ({entry.distribution} {entry.version}): {entry.summary}", ""]
    lines += [inspect.getdoc(plugin) or "", ""]
    if issubclass(plugin, Reducer):
        lines += _reducer(plugin)
    lines += ["Parameters:" if plugin.params_type.model_fields else "Parameters: none"]
    properties = plugin.params_type.model_json_schema().get("properties", {})
    for name, field in plugin.params_type.model_fields.items():
        default = (
            "required" if field.is_required() else f"default {_shown(field.get_default(call_default_factory=True))}"
        )
        lines.append(f"  {name}  {_kind(properties[name])}, {default}")
        lines.append(f"      {field.description or ''}")
    return "\n".join(lines)


def _reducer(plugin: type[Reducer[Any]]) -> list[str]:
    scopes = [scope for scope in ("volume", "patient", "dataset") if scope in plugin.scopes]
    lines = [f"Scopes: {', '.join(scopes)} (default {plugin.default_scope})"]
    complete = not any(field.is_required() for field in plugin.params_type.model_fields.values())
    knob = plugin().knob if complete else plugin.knob  # an instance may narrow it
    if knob is not None:
        default = "no default: give it or keep" if knob.default is None else f"default {knob.default:g}"
        lines.append(f"Knob: {knob.name}, {knob.low:g}..{knob.high:g} {knob.unit}, {default}")
    return [*lines, ""]


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _kind(schema: dict[str, Any]) -> str:
    """A JSON Schema property in a few words: ``integer 1..64``, ``"a" | "b"``."""
    if "anyOf" in schema:
        return " | ".join(_kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(_shown(value) for value in schema["enum"])
    if "const" in schema:
        return _shown(schema["const"])
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    bounds = "" if low is None and high is None else f" {'' if low is None else low}..{'' if high is None else high}"
    return f"{schema.get('format', schema.get('type', 'value'))}{bounds}"
