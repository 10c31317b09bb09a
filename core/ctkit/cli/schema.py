"""The JSON Schema of pipeline files: an editor completes keys, and shows each parameter's meaning and bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from ctkit.errors import PluginError
from ctkit.pipeline_file.sections import TABLES, ArmKeys, PipelineFile, PluginTable
from ctkit.plugins import Registry

Schema = dict[str, Any]
_FILE = r"^.+\.py(:[A-Za-z_]\w*)?$"


def pipeline_schema(registry: Registry) -> Schema:
    """Return the schema of a pipeline file for plugins that are installed and not broken, and for those in files."""
    of = {name: list(_models(registry, table)) for name, table in TABLES.items()}
    several = create_model("reduce.steps", __base__=ArmKeys, steps=(list[dict[str, Any]], Field(min_length=1)))
    every: list[type[BaseModel]] = [PipelineFile, several, *itertools.chain(*of.values())]
    found, definitions = models_json_schema([(model, "validation") for model in every], ref_template="#/$defs/{model}")
    defined: Schema = definitions["$defs"]

    def properties(model: type[BaseModel]) -> Schema:
        return cast(Schema, defined[found[model, "validation"]["$ref"].rpartition("/")[2]]["properties"])

    def any_of(name: str) -> list[Schema]:
        return [found[model, "validation"] for model in of[name]]

    properties(several)["steps"]["items"] = {"anyOf": any_of("steps")}
    for model in (models[-1] for models in of.values()):  # whose parameters only the file says
        defined[found[model, "validation"]["$ref"].rpartition("/")[2]].pop("additionalProperties", None)
    names = [properties(model)["use"] for model in of["protocol"]]
    protocol = {"anyOf": [*names, *any_of("protocol")]}
    for model in of["task"]:
        properties(model)["protocol"] |= {"anyOf": [protocol, {"type": "array", "minItems": 1, "items": protocol}]}
    for name, table in properties(PipelineFile).items():
        if name in TABLES:
            one = {"anyOf": any_of(name) + ([found[several, "validation"]] if name == "reduce" else [])}
            table.update({"items": one} if table["type"] == "array" else one)
    properties(PipelineFile)["dataset"].pop("type")
    properties(PipelineFile)["dataset"].pop("additionalProperties", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **defined.pop("PipelineFile"), "$defs": defined}


def _models(registry: Registry, table: PluginTable) -> Iterator[type[BaseModel]]:
    """The models of a table, one for each plugin, and one for those in files, last."""
    for entry in registry.of_kind(table.kind):
        try:
            yield table.model(entry)
        except PluginError:
            continue
    use: Any = Field(pattern=_FILE, description="a Python file, relative to this one, and a class in it")
    yield create_model(f"{table.kind}.file", __base__=table.keys, use=(str, use))
