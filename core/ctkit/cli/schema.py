"""The JSON Schema of pipeline files: an editor completes keys, and shows each parameter's meaning and bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ctkit.errors import PluginError
from ctkit.pipeline_file.sections import PROTOCOL, STEPS, TABLES, StepsKeys, Table
from ctkit.plugins import Registry

Schema = dict[str, Any]


def pipeline_schema(registry: Registry) -> Schema:
    """Return the schema of a pipeline file for the plugins that are installed; broken ones are left out."""
    of = {table.name: list(_models(registry, table)) for table in (*TABLES.values(), STEPS, PROTOCOL)}
    every: list[type[BaseModel]] = [StepsKeys, *itertools.chain(*of.values())]
    found, definitions = models_json_schema([(model, "validation") for model in every], ref_template="#/$defs/{model}")

    def any_of(name: str) -> Schema:
        return {"anyOf": [found[model, "validation"] for model in of[name]]}

    defined: Schema = definitions["$defs"]
    _at(defined, found[StepsKeys, "validation"])["steps"]["items"] = any_of("steps")
    names = [{"enum": _at(defined, found[model, "validation"])["use"]["enum"]} for model in of["protocol"]]
    one = {"anyOf": [*names, *any_of("protocol")["anyOf"]]}
    for model in of["task"]:
        _at(defined, found[model, "validation"])["protocol"] |= {"$ref": "#/$defs/protocols"}
    defined["protocols"] = {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}
    properties: Schema = {}
    for name, table in TABLES.items():
        items = any_of(name)
        if name == "reduce":
            items["anyOf"].append(found[StepsKeys, "validation"])
        properties[name] = {"type": "array", "items": items} if table.many else items
    properties["reduce"]["minItems"] = 1
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ctkit pipeline",
        "type": "object",
        "additionalProperties": False,
        "required": ["run", "dataset", "reduce"],
        "properties": properties,
        "$defs": defined,
    }


def _at(definitions: Schema, reference: Schema) -> Schema:
    """Properties of what ``{"$ref": "#/$defs/NAME"}`` refers to."""
    properties: Schema = definitions[reference["$ref"].rpartition("/")[2]]["properties"]
    return properties


def _models(registry: Registry, table: Table) -> Iterator[type[BaseModel]]:
    """The models of a kind of table: one for each plugin, or the core's alone."""
    if table.kind is None:
        yield table.keys
        return
    for entry in registry.of_kind(table.kind):
        try:
            yield table.model(entry)
        except PluginError:
            continue
