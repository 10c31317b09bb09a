"""What the class of a plugin declares, checked when it is loaded and in ``ctkit.testing``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic.json_schema import PydanticJsonSchemaWarning

from ctkit.contracts import BASES, Dataset, Knob, Params, Plugin, Reducer
from ctkit.contracts.judge import Judge
from ctkit.contracts.reducer import SCOPES, knobs
from ctkit.hookspecs import Kind

_CHOICES: Mapping[type[Plugin[Any]], Mapping[str, tuple[Any, ...]]] = {
    Dataset: {"dicom": (True, False)},
    Reducer: {
        "evidence": ("none", "slice", "pair"),
        "device": ("cpu", "accelerator"),
        "draws": (True, False),
        "keeps_all": (True, False),
        "by_slice": (True, False),
        "describes_at": (True, False),
    },
}


def check_declared(judge: Judge, kind: Kind, plugin: type[Plugin[Any]]) -> None:
    """Check that a class is a whole one of its kind, and that what it declares can be so."""
    base = BASES[kind]
    promise = f"must be a subclass of ctkit.contracts.{base.__name__}"
    judge.must(isinstance(plugin, type), f"{promise} but is {plugin!r}; pass the class, not an object of it")
    judge.must(
        issubclass(plugin, base),
        f"{promise} but is one of {plugin.__mro__[1].__name__}; derive from it, or register it by another hook than"
        f" ctkit_register_{kind}s",
    )
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    judge.must(not missing, f"must implement the contract of a {kind} but lacks {', '.join(missing)}; add them")
    for name in dir(base):
        if inspect.isroutine(getattr(base, name)) and not name.startswith("_"):
            _check_method(judge, name, inspect.getattr_static(base, name), inspect.getattr_static(plugin, name))
    _check_version(judge, plugin.version)
    _check_parameter_type(judge, plugin.params_type)
    for name, valid in _CHOICES.get(base, {}).items():
        value = getattr(plugin, name)
        choices = ", ".join(map(repr, valid))
        right = any(value is one or (isinstance(one, str) and value == one) for one in valid)
        judge.must(right, f"{name} must be one of {choices}, but it is {value!r}; choose one of these")
    if issubclass(plugin, Reducer):
        _check_reducer(judge, plugin)


def _check_method(judge: Judge, name: str, promised: Any, found: Any) -> None:
    """Check that what a class has in the place of a method of its contract can be called as that is."""
    function = getattr(found, "__func__", found)  # of a static or class method
    judge.must(
        callable(function) and not isinstance(found, property | cached_property),
        f"{name} must be a method, but it is of type {type(found).__name__}; write def {name}(...)",
    )
    judge.must(
        not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)),
        f"{name} must be a plain function, but it is async, which nobody awaits; write def {name}(...)",
    )
    wanted = inspect.signature(getattr(promised, "__func__", promised))
    own = list(wanted.parameters.values())[isinstance(found, staticmethod) :]
    named = {one.name: None for one in own if one.kind is inspect.Parameter.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(*[None] * (len(own) - len(named)), **named)
    except TypeError:
        takes = ", ".join(wanted.parameters)
        judge.must(False, f"{name} must take ({takes}), but it takes {inspect.signature(function)}; change it")
    except ValueError:  # what is written in C may not say what it takes
        pass


def _check_version(judge: Judge, version: object) -> None:
    judge.must(
        isinstance(version, int) and not isinstance(version, bool) and version >= 1,
        f"version must be a whole number from 1 on, but it is {version!r}; raise it by 1 whenever results change",
    )


def _check_parameter_type(judge: Judge, model: object) -> None:
    right = isinstance(model, type) and issubclass(model, Params)
    judge.must(right, f"params_type must be a subclass of ctkit.contracts.Params, but it is {model!r}; derive one")
    assert isinstance(model, type)
    assert issubclass(model, Params)
    promise = f"{model.__name__} must have a JSON Schema, for files and editors"
    with judge.keeping(promise, "use plain types and defaults"), warnings.catch_warnings():
        warnings.simplefilter("error", PydanticJsonSchemaWarning)
        model.model_json_schema()
    aliases = [name for name, field in model.model_fields.items() if field.alias or field.validation_alias]
    judge.must(not aliases, f"parameters must have one name, but {', '.join(aliases)} has an alias; rename the field")


def _check_reducer(judge: Judge, plugin: type[Reducer[Any]]) -> None:
    scopes, default = plugin.scopes, plugin.default_scope
    several = isinstance(scopes, frozenset | set | tuple | list) and {*map(str, scopes)} <= SCOPES
    judge.must(
        several and scopes,
        f"scopes must be a subset of {', '.join(sorted(SCOPES))}, but they are {scopes!r}; write"
        " frozenset({'volume'}), for example",
    )
    judge.must(
        default in scopes,
        f"default_scope must be one of scopes, but {default!r} is not in {sorted(scopes)}; change one of the two",
    )
    judge.must(
        plugin.evidence != "pair" or set(scopes) == {"volume"},
        "evidence of pairs is for one volume, so scopes must be {'volume'},"
        f" but they are {sorted(scopes)}; set scopes = frozenset({{'volume'}})",
    )
    judge.must(
        plugin.evidence == "none" or plugin.describe is not Reducer.describe,
        f"a reducer with evidence {plugin.evidence!r} must have describe, but it has none; add it, or set evidence ="
        ' "none"',
    )
    judge.must(
        hasattr(plugin.knob, "__get__"),
        "must not set knob; mark its parameter with ctkit.contracts.knob instead",
    )
    marked = knobs(plugin.params_type)
    names = " and ".join(one.name for one in marked)
    judge.must(len(marked) < 2, f"must have one knob at most but marks {names}; mark one with ctkit.contracts.knob")
    for one in marked:
        _check_knob(judge, one, plugin.params_type)


def _check_knob(judge: Judge, knob: Knob, model: type[Params]) -> None:
    field, numbers = model.model_fields[knob.name], (knob.low, knob.high)
    kinds = get_args(field.annotation) if get_origin(field.annotation) in (Union, UnionType) else (field.annotation,)
    judge.must(
        {*kinds} <= {int, float, NoneType},
        f"the knob must be an int or a float, but {knob.name} is {field.annotation}; write {knob.name}: float = ...",
    )
    judge.must(
        isinstance(knob.unit, str) and knob.unit,
        "the knob must have a unit, but it is empty; set it, for example 'slices' or 'bits'",
    )
    judge.must(
        all(isinstance(one, int | float) for one in numbers) and knob.low < knob.high,
        f"the knob's low must be below its high, but they are {knob.low} and {knob.high}; correct the range",
    )
    judge.must(
        not knob.share or (knob.low >= 0 and knob.high <= 1),
        f"a knob with share must be in 0..1, but its range is {knob.low:g} to {knob.high:g}; change the range, or"
        " remove share",
    )
    default = None if field.is_required() else field.default
    judge.must(
        default is None or (isinstance(default, int | float) and knob.low <= default <= knob.high),
        f"the knob's default must be in {knob.low:g}..{knob.high:g}, but it is {default!r}; correct one of them",
    )
