"""What is wrong with one table of a pipeline file, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ctkit.errors import nearest
from ctkit.pipeline_file.places import Location
from ctkit.pipeline_file.sections import ID

ModelT = TypeVar("ModelT", bound=BaseModel)

_UNCONVERTED = {"int_type", "float_type", "bool_type"}  #: "3" is no number, and true is none either
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "path": "a path in quotes",
    "list": "an array",
    "tuple": "an array",
    "dict": "a table",
    "model": "a table",
}


def meant(words: Iterable[str], valid: Collection[str]) -> set[str]:
    """Return the valid words that wrong ones of these are misspellings of: what they stand for is not missing."""
    return {close for word in words if word not in valid for close in difflib.get_close_matches(word, valid, n=1)}


def validated(
    model: type[ModelT], table: Mapping[str, Any], base: Path
) -> tuple[ModelT | None, Iterable[tuple[Location, str]]]:
    """Return a table as its model, None where it is wrong, and each mistake with the place of its key in the table."""
    whole, problems = None, []
    for strict in (False, True):  # of the strict reading only what other programs would refuse too: "3" for 3
        try:
            whole = model.model_validate(table, strict=strict, context={"base": base})
        except ValidationError as error:
            found = error.errors(include_url=False)
            problems += [one for one in found if one["type"] in _UNCONVERTED] if strict else found
    return (None if problems else whole), _explained(problems, model, table)


def _explained(
    problems: Iterable[ErrorDetails], model: type[BaseModel], table: Mapping[str, Any]
) -> Iterator[tuple[Location, str]]:
    """One mistake for each place; the members of a union may all have refused it, each for a reason of its own."""
    at: dict[Location, list[ErrorDetails]] = {}
    for problem in problems:
        at.setdefault(_place(problem, table), []).append(problem)
    unknown = [(problem, place) for place, (problem, *_) in at.items() if problem["type"] == "extra_forbidden"]
    misspelt = {(*place[:-1], *meant([str(place[-1])], _fields_at(model, one["loc"]))) for one, place in unknown}
    for place, several in at.items():
        if several[0]["type"] == "missing" and place in misspelt:
            continue
        inside = any(other[: len(place)] == place and other != place for other in at)
        if inside and len(several[0]["loc"]) > len(place):
            continue  # another member of the union fits, but for what is wrong inside
        told = [one for one in several if one["type"] == "value_error"] or several
        reasons = list(dict.fromkeys(_words(one, model) for one in told))
        message = " or ".join([reasons[0], *(reason.removeprefix("must be ") for reason in reasons[1:])])
        given = told[0]["input"]
        shown = told[0]["type"] in ("missing", "extra_forbidden") or isinstance(given, dict) or str(given) in message
        yield place, message if shown else f"{message} but is {given!r}"


def _place(problem: ErrorDetails, table: Any) -> Location:
    """Where a problem is; pydantic names members of unions too, which are no keys."""
    place: Location = ()
    for part in problem["loc"]:
        inside = part in table if isinstance(table, dict) else isinstance(table, list) and isinstance(part, int)
        if inside and not (isinstance(part, int) and part >= len(table)):
            place, table = (*place, part), table[part]
    return (*place, problem["loc"][-1]) if problem["type"] == "missing" else place


def _words(problem: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "missing":
        return "is required but missing"
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(str(problem['loc'][-1]), _fields_at(model, problem['loc']))}"
    if context.get("pattern") == ID:
        return "must be made of the letters a to z, digits and . _ + -, and begin with a letter or digit"
    if (noun := kind.partition("_")[0]) in _TYPES and kind.endswith(("_type", "_parsing", "_from_float")):
        return f"must be {_TYPES[noun]}"
    message = re.sub(r"^\w+ should ", "must ", problem["msg"].removeprefix("Value error, "))
    return message[0].lower() + message[1:]


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    if len(location) == 1:
        return set(model.model_fields)
    field = model.model_fields.get(str(location[0]))
    kinds = getattr(field.annotation, "__args__", (field.annotation,)) if field else ()
    return {
        name for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel) for name in kind.model_fields
    }
