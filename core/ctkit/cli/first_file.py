"""A first pipeline file: what was chosen, and every other parameter as a comment with its meaning and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
        stated = (f"{key} = {_toml(value)}" for key, value in given.items() if value is not None)
        return [header, *stated, *_comments(model, given), ""]

    lines = ["# A pipeline of ctkit. Check it with `ctkit validate`, try it with `ctkit run --dry-run`.", ""]
    lines += table("run", name=wishes.name) + table("compute")
    lines += table("dataset", wishes.root, use=wishes.dataset)
    for name in wishes.reducers:
        lines += table("reduce", use=name, **_knob(registry, name))
    if wishes.method:
        method: Any = registry.find("method", wishes.method).load()
        first = dict(method.first)
        lines += ["# A short training, to see an effect in minutes. The defaults are for long ones."] if first else []
        lines += table("pretrain", use=wishes.method, **first)
        lines += ["# A backbone for comparison: the same network with random weights, or with the weights of a file."]
        lines += table("baseline", id=BASELINE)
    if wishes.method and wishes.task:
        protocols = [_protocol(registry, name, first.get("size")) for name in wishes.protocols]
        lines += table("task", wishes.task_root, use=wishes.task, protocol=protocols)
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


def _protocol(registry: Registry, name: str, size: int | None) -> Any:
    """A protocol that shows images as large as the views of a pre-training, where it resizes them."""
    resizes = "size" in registry.find("protocol", name).load().params_type.model_fields
    return {"use": name, "size": size} if size and resizes else name


def _comments(model: type[Any], given: Mapping[str, Any]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if given.get(name) is not None:
            continue
        if field.is_required():
            yield f'{name} = "..."  # {field.description or ""}'
        else:
            value = None if name in given else field.get_default(call_default_factory=True)
            shown = _toml(value) if value is not None else "..."
            yield f"# {name} = {shown}  # {field.description or ''}".rstrip(" #")


def _toml(value: Any) -> str:
    """A value as TOML writes it: JSON's spelling fits strings, numbers, booleans and lists of these."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(part)}' for key, part in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False, default=str)
