"""Where a key stands in a TOML text, for error messages; ``tomllib`` does not keep that."""

from __future__ import annotations

import re
from collections import Counter

Location = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*[\"']?([\w.-]+)[\"']?\s*=")
_LONG = re.compile(r"\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}")
_SILENT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*")  #: what holds no bracket that would count


def show(location: Location) -> str:
    """Return a location as a person writes it: ``reduce[1].threshold``, counted from 0 as the file's tables are."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def line_of(text: str, location: Location) -> int:
    """Return the line of the innermost part of ``location`` that has a line of its own, 0 where none has."""
    counts: Counter[Location] = Counter()
    table: Location = ()
    best, line, depth = 0, 0, 0
    flat = _LONG.sub(lambda found: '""' + "\n" * found[0].count("\n"), text)
    for number, content in enumerate(flat.split("\n"), start=1):
        outside, bare = depth == 0, _SILENT.sub("", content)
        depth += bare.count("[") - bare.count("]")
        if outside and (header := _HEADER.match(content)):
            table = here = _numbered(tuple(re.sub("[\"' ]", "", header[2]).split(".")), header[1] == "[[", counts)
        elif outside and (key := _KEY.match(content)):
            here = (*table, *key[1].split("."))
        else:
            continue
        if len(here) > best and location[: len(here)] == here:
            best, line = len(here), number
    return line


def _numbered(names: tuple[str, ...], repeated: bool, counts: Counter[Location]) -> Location:
    """Number the repeated tables: ``("reduce", "steps")`` to ``("reduce", 0, "steps", 2)``."""
    here: Location = ()
    for depth, name in enumerate(names, start=1):
        here = (*here, name)
        if repeated and depth == len(names):
            counts[here] += 1
        if counts[here]:
            here = (*here, counts[here] - 1)
    return here
