"""What every kind of plugin promises: documented frozen parameters, and a constructor that only stores them."""

from __future__ import annotations

import pickle
from typing import Any, TypeVar

from ctkit.contracts import BASES, Params, Plugin
from ctkit.contracts.judge import Judge, check_parameters_stored
from ctkit.hookspecs import Kind
from ctkit.pipeline_file.sections import core_keys
from ctkit.promises.declarations import check_declared

PluginT = TypeVar("PluginT", bound=Plugin[Any])


class NonConformance(AssertionError):  # noqa: N818  # says what it is
    """A plugin breaks a promise of its contract."""


def build(kind: Kind, plugin: type[PluginT], params: Params | None) -> tuple[PluginT, Judge]:
    """Check what every plugin promises; return one, and who judges the rest."""
    judge = Judge(getattr(plugin, "__name__", repr(plugin)), NonConformance)
    _check_class(judge, kind, plugin)
    _check_parameter_model(judge, kind, plugin.params_type)
    if params is None:
        with judge.keeping("its parameters must be given where they have no defaults", "pass params"):
            params = plugin.params_type()
    _check_parameters(judge, plugin, params)
    built = plugin(params)
    _check_constructor(judge, plugin, built, params)
    return built, judge


def check_check(judge: Judge, built: Plugin[Any]) -> None:
    """Check that a plugin that can work finds nothing missing."""
    promise = "check must yield nothing if the plugin can work"
    with judge.keeping(promise, "correct check"):
        found = [fault for device in (None, "cpu") for fault in built.check(device)]
    judge.must(
        all(isinstance(fault, str) for fault in found),
        "check must give lines of text, but they are of type"
        f" {', '.join(sorted({type(fault).__name__ for fault in found}))}; say what is missing, where, and what to do",
    )
    judge.must(not found, f"{promise}, but {found[:1]!r}; correct check")


def check_pickling(judge: Judge, built: Plugin[Any], promise: str) -> None:
    """Check that a plugin comes back from a worker process."""
    again = pickle.loads(pickle.dumps(built))  # noqa: S301  # pickled here
    judge.must(
        type(again) is type(built),
        f"{promise}, but it comes back as something else; define it at the top level of a module",
    )


def _check_class(judge: Judge, kind: Kind, plugin: type[Plugin[Any]]) -> None:
    check_declared(judge, kind, plugin)
    judge.must(
        plugin.__doc__ and plugin.__doc__ != BASES[kind].__doc__,
        "a plugin must have a docstring, which `ctkit describe` shows, but it has none; write one",
    )


def _check_parameter_model(judge: Judge, kind: Kind, model: type[Params]) -> None:
    judge.must(
        model.model_config.get("frozen") and model.model_config.get("extra") == "forbid",
        f"{model.__name__} must be frozen and refuse unknown keys,"
        f" but its model_config is {model.model_config}; keep the settings of ctkit.contracts.Params",
    )
    for name, field in model.model_fields.items():
        judge.must(
            field.description,
            f"parameter {name} must be described, with its unit,"
            f" but it has no description; write {name}: ... = Field(..., description=...)",
        )
    taken = sorted(core_keys(kind) & model.model_fields.keys())
    judge.must(
        not taken,
        f"a {kind}'s parameters must not be named {', '.join(sorted(core_keys(kind)))}: those keys are reserved for"
        f" ctkit, but there is {', '.join(taken)}, which no pipeline file can set; give it another name",
    )


def _check_parameters(judge: Judge, plugin: type[Plugin[Any]], params: Params) -> None:
    judge.must(
        isinstance(params, plugin.params_type),
        f"its parameters must be a {plugin.params_type.__name__}, but they are a {type(params).__name__};"
        f" write class {plugin.__name__}(...[{type(params).__name__}]), or pass the right parameters",
    )
    judge.must(
        pickle.loads(pickle.dumps(params)) == params,  # noqa: S301  # pickled here
        "parameters must survive pickling, because they are sent to worker processes,"
        " but they come back different; hold plain values in them",
    )
    judge.must(
        type(params).model_validate(params.model_dump(mode="json")) == params,
        "parameters must survive JSON, because they are part of every address,"
        f" but {params!r} comes back different; let validators accept what they return",
    )


def _check_constructor(judge: Judge, plugin: type[Plugin[Any]], built: Plugin[Any], params: Params) -> None:
    check_parameters_stored(judge, built, params)
    added = sorted(name for name in vars(built) if name != "params" and not hasattr(plugin, name))
    judge.must(
        not added,
        f"the constructor must do nothing but store parameters, but it also sets {', '.join(added)}; compute it where"
        " it is used, for example in a functools.cached_property",
    )
