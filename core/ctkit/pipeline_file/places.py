"""Where a key stands in a TOML text, for error messages; ``tomllib`` does not keep that."""

from __future__ import annotations

import re
from collections import Counter

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")


def show(location: tuple[str | int, ...]) -> str:
    """Return a location as a person writes it: ``reduce[1].threshold``, counted from 0 as the file's tables are."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def line_of(text: str, location: tuple[str | int, ...]) -> str:
    """Return ``":line"`` of the innermost part of ``location`` that has a line of its own, "" where none has."""
    counts: Counter[tuple[str | int, ...]] = Counter()
    table: tuple[str | int, ...] = ()
    best, line = 0, 0
    for number, content in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(content)
        if header:
            table = _numbered(tuple(header[2].replace('"', "").split(".")), header[1] == "[[", counts)
            here = table
        else:
            key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", content)
            if not key:
                continue
            here = (*table, *key[1].split("."))
        if len(here) > best and location[: len(here)] == here:
            best, line = len(here), number
    return f":{line}" if line else ""


def _numbered(names: tuple[str, ...], repeated: bool, counts: Counter[tuple[str | int, ...]]) -> tuple[str | int, ...]:
    """Number the repeated tables: ``("reduce", "steps")`` to ``("reduce", 0, "steps", 2)``."""
    here: tuple[str | int, ...] = ()
    for depth, name in enumerate(names, start=1):
        here = (*here, name)
        if repeated and depth == len(names):
            counts[here] += 1
        if counts[here]:
            here = (*here, counts[here] - 1)
    return here
