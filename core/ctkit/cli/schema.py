"""The JSON Schema of pipeline files: an editor completes keys, and shows each parameter's meaning and bounds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ctkit.contracts import Knob, Reducer
from ctkit.errors import PluginError
from ctkit.pipeline_file import sections
from ctkit.plugins import Entry, Registry

Schema = dict[str, Any]


def pipeline_schema(registry: Registry) -> Schema:
    """Return the schema of a pipeline file for the plugins that are installed; broken ones are left out."""
    definitions: Schema = {}
    steps = _variants(registry, "reducer", definitions, sections.StepKeys)
    arms = _variants(registry, "reducer", definitions, sections.ArmKeys, sections.StepKeys)
    stepped = _object(definitions, sections.ArmKeys) | {"required": ["steps"]}
    stepped["properties"]["steps"] = {"type": "array", "minItems": 1, "items": {"oneOf": steps}}
    tasks = _variants(registry, "task", definitions, sections.TaskKeys)
    definitions["protocol"] = _protocol(_variants(registry, "protocol", definitions))
    for task in tasks:
        task["properties"]["protocol"] = {"$ref": "#/$defs/protocol"}
    properties = {
        "run": _object(definitions, sections.RunSection),
        "compute": _object(definitions, sections.ComputeSection),
        "report": _object(definitions, sections.ReportSection),
        "dataset": {"oneOf": _variants(registry, "dataset", definitions, sections.Rendering)},
        "reduce": {"type": "array", "minItems": 1, "items": {"oneOf": [*arms, stepped]}},
        "pretrain": {
            "type": "array",
            "items": {"oneOf": _variants(registry, "method", definitions, sections.PretrainKeys)},
        },
        "baseline": {"type": "array", "items": {"anyOf": _baselines(registry, definitions)}},
        "task": {"type": "array", "items": {"oneOf": tasks}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ctkit pipeline",
        "type": "object",
        "additionalProperties": False,
        "required": ["run", "dataset", "reduce"],
        "properties": properties,
        "$defs": definitions,
    }


def _variants(registry: Registry, kind: str, definitions: Schema, *core: type[BaseModel]) -> list[Schema]:
    """One schema for each plugin of a kind: its parameters, its knob and the core's keys."""
    found = []
    for entry in registry.of_kind(kind):
        try:
            plugin = entry.load()
        except PluginError:
            continue
        one = _object(definitions, *core, plugin.params_type)
        one["title"] = entry.name
        one["description"] = entry.summary
        one["properties"]["use"] = {"enum": _names(entry)}
        if issubclass(plugin, Reducer) and isinstance(plugin.knob, Knob):
            one["properties"][plugin.knob.name] = _knob(plugin.knob)
        one["required"] = sorted({"use", *one.get("required", ())})
        found.append(one)
    return found


def _baselines(registry: Registry, definitions: Schema) -> list[Schema]:
    """Methods as baselines: ``use`` may be left out for the usual one."""
    found = _variants(registry, "method", definitions, sections.PretrainKeys)
    for one in found:
        if one["title"] == sections.BASELINE:
            one["required"].remove("use")
    return found


def _names(entry: Entry) -> list[str]:
    qualified = f"{entry.distribution}:{entry.name}"
    return [qualified] if entry.status == "clash" else [entry.name, qualified]


def _knob(knob: Knob) -> Schema:
    kind = "integer" if knob.integer else "number"
    schema: Schema = {"type": kind, "minimum": knob.low, "maximum": knob.high, "description": f"in {knob.unit}"}
    return schema if knob.default is None else schema | {"default": knob.default}


def _protocol(variants: list[Schema]) -> Schema:
    names = [name for variant in variants for name in variant["properties"]["use"]["enum"]]
    one: Schema = {"oneOf": [{"enum": names}, *variants]}
    return {"anyOf": [one, {"type": "array", "items": one}], "default": "linear"}


def _object(definitions: Schema, *models: type[BaseModel]) -> Schema:
    """Join the properties of models into one closed object; what they refer to goes into ``definitions``."""
    joined: Schema = {"type": "object", "additionalProperties": False, "properties": {}}
    for model in models:
        schema = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(schema.get("$defs", {}))
        joined["properties"] |= schema.get("properties", {})
        joined["required"] = sorted({*joined.get("required", ()), *schema.get("required", ())})
    return joined
