"""What is wrong with one table of a pipeline file, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ctkit.errors import PluginError, nearest
from ctkit.pipeline_file.sections import ID

Location = tuple[str | int, ...]  #: of a key in a document: ("reduce", 1, "threshold")
if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ModelT = TypeVar("ModelT", bound=BaseModel)

#: of strict reading: "3" is not a number, and true is none either
_UNCONVERTED = {"int_type", "float_type", "bool_type"}
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "a string"}
_TYPES |= {"path": "a path in quotes", "list": "an array", "tuple": "an array", "dict": "a table", "model": "a table"}


def validated(
    model: type[ModelT], table: Mapping[str, Any], base: Path, *, but: str = ""
) -> tuple[ModelT | None, Iterator[tuple[Location, str]]]:
    """Return a table as its model, None where it is wrong, and each mistake, ``but`` of one type, with its place."""
    whole, problems = None, []
    for strict in (False, True):
        try:
            whole = model.model_validate(table, strict=strict, context={"base": base})
        except ValidationError as error:
            problems += [one for one in error.errors() if not strict or one["type"] in _UNCONVERTED]
        except Exception as error:  # a stranger's validator may raise anything
            return None, iter([((), f"validators must raise ValueError, but one raised {PluginError.words_of(error)}")])
    told = (one for one in problems if one["type"] != but)
    return (None if problems else whole), _explained(told, model, table)


def meant(words: Iterable[str], valid: Collection[str]) -> set[str]:
    """Return the valid words that wrong ones of these are misspellings of: what they stand for is not missing."""
    return {close for word in words if word not in valid for close in difflib.get_close_matches(word, valid, n=1)}


def _explained(
    problems: Iterable[ErrorDetails], model: type[BaseModel], table: Mapping[str, Any]
) -> Iterator[tuple[Location, str]]:
    """One mistake for each place, where every member of a union may have refused what is there."""
    at: dict[Location, list[ErrorDetails]] = {}
    for problem in problems:
        at.setdefault(_place(problem, table), []).append(problem)
    unknown = [(place, one["loc"]) for place, (one, *_) in at.items() if one["type"] == "extra_forbidden"]
    misspelt = {(*place[:-1], word) for place, loc in unknown for word in meant([str(loc[-1])], _fields(model, loc))}
    for place, several in at.items():
        inside = len(several[0]["loc"]) > len(place) and any(place == other[: len(place)] != other for other in at)
        if inside or (several[0]["type"] == "missing" and place in misspelt):
            continue  # another member of the union fits but for what is wrong inside; what is missing is misspelt
        sound = [one for one in several if one["type"] != "finite_number"]  # NaN is said once
        told = [one for one in several if one["type"] == "value_error"] or sound or several
        first, *others = dict.fromkeys(_words(one, model) for one in told)
        message, given = " or ".join([first, *(other.removeprefix("must be ") for other in others)]), told[0]["input"]
        own = told[0]["type"] == "value_error" and str(given) in message
        said = own or told[0]["type"] in ("missing", "extra_forbidden") or isinstance(given, dict)
        yield (
            place,
            message if said else f"{message} but is {str(given).lower() if isinstance(given, bool) else repr(given)}",
        )


def _place(problem: ErrorDetails, table: Any) -> Location:
    """Where a problem is; pydantic names members of unions too, which are no keys."""
    place: Location = ()
    for part in problem["loc"]:
        keys = table if isinstance(table, dict) else range(len(table)) if isinstance(table, list) else ()
        if part in keys:
            place, table = (*place, part), table[part]
    own = not place and problem["type"] != "extra_forbidden" and problem["loc"]  # a default, which no table holds
    return (*place, problem["loc"][-1]) if problem["type"] == "missing" else place or tuple(own or ())


def _words(problem: ErrorDetails, model: type[BaseModel]) -> str:
    kind, location = problem["type"], problem["loc"]
    if kind == "missing":
        field = model.model_fields.get(str(location[0])) if len(location) == 1 else None
        return "is required but missing" + (f": {field.description}" if field and field.description else "")
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(location[-1]), _fields(model, location))}"
    if problem.get("ctx", {}).get("pattern") == ID:
        return "must consist of letters a to z, digits and . _ + -, and begin with a letter or digit"
    if kind == "list_type" and isinstance(problem["input"], dict):
        return f"must be tables, each under [[{location[-1]}]]"
    if kind.endswith(("_type", "_parsing", "_from_float")) and kind.partition("_")[0] in _TYPES:
        return f"must be {_TYPES[kind.partition('_')[0]]}"
    message = problem["msg"].removeprefix("Value error, ").partition(" after validation")[0]
    message = re.sub(r"^\w+ should ", "must ", message)
    return message[0].lower() + message[1:]


def _fields(model: type[BaseModel], location: Location) -> set[str]:
    """Keys that are valid where a problem is."""
    if len(location) == 1:
        return set(model.model_fields)
    field = model.model_fields.get(str(location[0]))
    kinds = get_args(field.annotation) or (field.annotation,) if field else ()
    inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return {name for kind in inner for name in kind.model_fields}
