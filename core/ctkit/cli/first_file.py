"""A first pipeline file: what was chosen, and every other parameter as a comment with its meaning and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from ctkit.contracts.reducer import knob_of
from ctkit.hookspecs import Kind
from ctkit.pipeline_file.sections import BASELINE, TABLES, PipelineFile
from ctkit.plugins import Registry


@dataclass(frozen=True)
class Wishes:
    """What the file is to do. Names are plugins'; empty ones leave that part out."""

    name: str
    dataset: str
    root: str
    reducers: Sequence[str]
    method: str
    task: str
    task_root: str
    protocols: Sequence[str]


def first_file(wishes: Wishes, registry: Registry) -> str:
    """Return a commented pipeline file. Raises ``PluginError`` where a name is unknown."""

    def table(key: str, root: str = "", **given: Any) -> list[str]:
        kind, field = TABLES.get(key), PipelineFile.model_fields[key].annotation
        model: Any = kind.model(registry.find(kind.kind, str(given.get("use", kind.use)))) if kind else field
        given |= {"root": root} if root and "root" in model.model_fields else {}
        header = f"[[{key}]]" if get_origin(field) is list else f"[{key}]"
        stated = (f"{key} = {_toml(value)}" for key, value in given.items())
        return [header, *stated, *_comments(model, set(given)), ""]

    lines = ["# A pipeline of ctkit. Check it with `ctkit validate`, try it with `ctkit run --dry-run`.", ""]
    lines += table("run", name=wishes.name) + table("compute")
    lines += table("dataset", wishes.root, use=wishes.dataset)
    for name in wishes.reducers:
        lines += table("reduce", use=name, **_knob(registry, name))
    if wishes.method:
        lines += table("pretrain", use=wishes.method)
        lines += ["# A backbone for comparison: the same network with random weights, or with the weights of a file."]
        lines += table("baseline", id=BASELINE)
    if wishes.method and wishes.task:
        lines += table("task", wishes.task_root, use=wishes.task, protocol=list(wishes.protocols))
    return "\n".join([*lines, *table("report")]).rstrip() + "\n"


def known(registry: Registry, kind: Kind, answer: str) -> str:
    """Return the plugins that an answer names, separated by spaces, "" for ``none`` where a pipeline may do without.

    Raises ``PluginError`` where there is no such plugin.
    """
    if answer == "none" and kind in ("method", "task"):
        return ""
    for name in answer.split():
        registry.find(kind, name)
    return answer


def has_root(registry: Registry, kind: Kind, name: str) -> bool:
    """Whether a plugin reads files below a folder."""
    return "root" in registry.find(kind, name).load().params_type.model_fields


def _knob(registry: Registry, name: str) -> dict[str, Any]:
    """The knob of a reducer, or a budget where that has no default."""
    params = registry.find("reducer", name).load().params_type
    knob = knob_of(params)
    default = params.model_fields[knob.name].default if knob else None
    return {} if knob is None else {"keep": {"share": 0.1}} if default is None else {knob.name: default}


def _comments(model: type[Any], given: set[str]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name in given:
            continue
        if field.is_required():
            yield f'{name} = "..."  # {field.description or ""}'
        else:
            value = field.get_default(call_default_factory=True)
            shown = _toml(value) if value is not None else "..."
            yield f"# {name} = {shown}  # {field.description or ''}".rstrip(" #")


def _toml(value: Any) -> str:
    """A value as TOML writes it: JSON's spelling fits strings, numbers, booleans and lists of these."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(part)}' for key, part in value.items())} }}"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False, default=str)
