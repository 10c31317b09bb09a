"""A first pipeline file: what was chosen, and every other parameter as a comment with its meaning and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ctkit.contracts import Params, Reducer
from ctkit.hookspecs import Kind
from ctkit.pipeline_file import default_id
from ctkit.pipeline_file.sections import BASELINE, ComputeSection, Rendering, ReportSection, RunSection, TaskKeys
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
    lines = ["# A pipeline of ctkit. Check it with `ctkit validate`, try it with `ctkit run --dry-run`.", ""]
    lines += _section("[run]", RunSection, {"name": wishes.name})
    lines += _section("[compute]", ComputeSection, {})
    dataset = registry.find("dataset", wishes.dataset).load().params_type
    given = {"use": wishes.dataset} | _root(dataset, wishes.root)
    lines += _section("[dataset]", dataset, given, Rendering)
    for name in wishes.reducers:
        lines += _reducer(registry, name, wishes.reducers)
    if wishes.method:
        method = registry.find("method", wishes.method).load().params_type
        lines += _section("[[pretrain]]", method, {"use": wishes.method})
        baseline = registry.find("method", BASELINE).load().params_type
        lines += [
            "# What pre-training is measured against: the same network with random weights, or with those of a file."
        ]
        lines += _section("[[baseline]]", baseline, {"id": BASELINE})
    if wishes.method and wishes.task:
        task = registry.find("task", wishes.task).load().params_type
        given = {"use": wishes.task, "protocol": list(wishes.protocols)} | _root(task, wishes.task_root)
        lines += _section("[[task]]", task, given, TaskKeys)
    lines += _section("[report]", ReportSection, {})
    return "\n".join(lines).rstrip() + "\n"


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


def _root(params: type[Params], root: str) -> dict[str, Any]:
    return {"root": root} if root and "root" in params.model_fields else {}


def _reducer(registry: Registry, name: str, all_names: Sequence[str]) -> list[str]:
    plugin = registry.find("reducer", name).load()
    knob = plugin.knob if issubclass(plugin, Reducer) else None
    given = _given(registry, name)
    lines = _section("[[reduce]]", plugin.params_type, given)[:-1]
    if knob is not None and knob.default is None:
        others = [default_id(_given(registry, other)) for other in all_names if other not in ("all", name)]
        lines.append("keep = { share = 0.1 }  # a budget" + (f', or {{ like = "{others[0]}" }}' if others else ""))
    return [*lines, ""]


def _given(registry: Registry, name: str) -> dict[str, Any]:
    """What the file says of a reducer: its name, and its knob where that has a default."""
    plugin = registry.find("reducer", name).load()
    knob = plugin.knob if issubclass(plugin, Reducer) else None
    if knob is None or knob.default is None:
        return {"use": name}
    return {"use": name, knob.name: int(knob.default) if knob.default == int(knob.default) else knob.default}


def _section(header: str, params: type[Any], given: dict[str, Any], *more: type[Any]) -> list[str]:
    lines = [header]
    lines += [f"{key} = {_toml(value)}" for key, value in given.items()]
    for model in (*more, params):
        lines += _comments(model, set(given))
    return [*lines, ""]


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
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False, default=str)
